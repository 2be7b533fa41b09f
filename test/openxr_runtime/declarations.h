/* What Debian's OpenXR 1.0.20 headers lack and the test runtime speaks: the loader's negotiation, body tracking of
 * two vendors, the floor-level local space. Layouts and numbers are those of the OpenXR registry; a test holds
 * them against pyopenxr's. */
#ifndef TEST_RUNTIME_DECLARATIONS_H
#define TEST_RUNTIME_DECLARATIONS_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define XR_NO_PROTOTYPES 1
#define XR_USE_TIMESPEC 1
#include <openxr/openxr.h>
#include <openxr/openxr_platform.h>

/* ---- negotiation: what the loader asks of a runtime's library */

enum { LOADER_STRUCT_LOADER_INFO = 1, LOADER_STRUCT_RUNTIME_REQUEST = 3 };

typedef struct LoaderInfo {
    int32_t structType;
    uint32_t structVersion;
    size_t structSize;
    uint32_t minInterfaceVersion, maxInterfaceVersion;
    XrVersion minApiVersion, maxApiVersion;
} LoaderInfo;

typedef struct RuntimeRequest {
    int32_t structType;
    uint32_t structVersion;
    size_t structSize;
    uint32_t runtimeInterfaceVersion;
    XrVersion runtimeApiVersion;
    PFN_xrGetInstanceProcAddr getInstanceProcAddr;
} RuntimeRequest;

/* ---- results and spaces younger than 1.0.20 */

#define RESULT_RUNTIME_UNAVAILABLE ((XrResult)-51)
#define REFERENCE_SPACE_LOCAL_FLOOR ((XrReferenceSpaceType)1000426000)

/* ---- many spaces at once: OpenXR 1.1, XR_KHR_locate_spaces */

#define TYPE_SPACES_LOCATE_INFO ((XrStructureType)1000471000)
#define TYPE_SPACE_LOCATIONS ((XrStructureType)1000471001)

typedef struct SpacesLocateInfo {
    XrStructureType type;
    const void *next;
    XrSpace baseSpace;
    XrTime time;
    uint32_t spaceCount;
    const XrSpace *spaces;
} SpacesLocateInfo;
typedef struct SpaceLocationData {
    XrSpaceLocationFlags locationFlags;
    XrPosef pose;
} SpaceLocationData;
typedef struct SpaceLocations {
    XrStructureType type;
    void *next;
    uint32_t locationCount;
    SpaceLocationData *locations;
} SpaceLocations;

/* ---- XR_FB_body_tracking */

#define TYPE_BODY_TRACKER_CREATE_INFO_FB ((XrStructureType)1000076001)
#define TYPE_BODY_JOINTS_LOCATE_INFO_FB ((XrStructureType)1000076002)
#define TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_FB ((XrStructureType)1000076004)
#define TYPE_BODY_JOINT_LOCATIONS_FB ((XrStructureType)1000076005)
#define TYPE_BODY_SKELETON_FB ((XrStructureType)1000076006)
#define FB_JOINTS 70

typedef struct BodyTrackerFB_T *BodyTrackerFB;
typedef struct BodyJointLocation {
    XrSpaceLocationFlags locationFlags;
    XrPosef pose;
} BodyJointLocation; /* of both vendors */
typedef struct SystemBodyTrackingProperties {
    XrStructureType type;
    void *next;
    XrBool32 supportsBodyTracking;
} SystemBodyTrackingProperties; /* of both vendors */
typedef struct BodyTrackerCreateInfo {
    XrStructureType type;
    const void *next;
    int32_t jointSet;
} BodyTrackerCreateInfo; /* of both vendors */
typedef struct BodyJointsLocateInfo {
    XrStructureType type;
    const void *next;
    XrSpace baseSpace;
    XrTime time;
} BodyJointsLocateInfo; /* of both vendors */
typedef struct BodySkeletonJointFB {
    int32_t joint, parentJoint;
    XrPosef pose;
} BodySkeletonJointFB;
typedef struct BodySkeletonFB {
    XrStructureType type;
    void *next;
    uint32_t jointCount;
    BodySkeletonJointFB *joints;
} BodySkeletonFB;
typedef struct BodyJointLocationsFB {
    XrStructureType type;
    void *next;
    XrBool32 isActive;
    float confidence;
    uint32_t jointCount;
    BodyJointLocation *jointLocations;
    uint32_t skeletonChangedCount;
    XrTime time;
} BodyJointLocationsFB;

/* ---- XR_BD_body_tracking */

#define TYPE_BODY_TRACKER_CREATE_INFO_BD ((XrStructureType)1000385001)
#define TYPE_BODY_JOINTS_LOCATE_INFO_BD ((XrStructureType)1000385002)
#define TYPE_BODY_JOINT_LOCATIONS_BD ((XrStructureType)1000385003)
#define TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_BD ((XrStructureType)1000385004)
#define BD_JOINTS 24
#define BD_FULL_BODY 2

typedef struct BodyTrackerBD_T *BodyTrackerBD;
typedef struct BodyJointLocationsBD {
    XrStructureType type;
    void *next;
    XrBool32 allJointPosesTracked;
    uint32_t jointLocationCount;
    BodyJointLocation *jointLocations;
} BodyJointLocationsBD;

#endif
