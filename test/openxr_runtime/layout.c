/* Sizes and offsets of what two languages must agree on, by name, for the tests. */
#include <string.h>

#include "script.h"

#define SIZE(type) {#type, sizeof(type)}
#define AT(type, field) {#type "." #field, offsetof(type, field)}

static const struct {
    const char *name;
    uint64_t value;
} LAYOUT[] = {
    SIZE(Script), SIZE(Happened), SIZE(Shared), SIZE(ScriptedPose), SIZE(ScriptedController), SIZE(ScriptedHand),
    AT(Script, time_shift_ns), AT(Script, head), AT(Script, controllers), AT(Script, hands), AT(Script, fb),
    AT(Script, bd), AT(Script, fb_skeleton), AT(Happened, haptic_duration_ns), AT(Happened, located_monotonic_ns),
    AT(ScriptedController, grip), AT(ScriptedHand, joints), AT(ScriptedPose, flags),
    SIZE(BodyJointLocation), AT(BodyJointLocation, pose),
    SIZE(SystemBodyTrackingProperties), AT(SystemBodyTrackingProperties, supportsBodyTracking),
    SIZE(BodyTrackerCreateInfo), AT(BodyTrackerCreateInfo, jointSet),
    SIZE(BodyJointsLocateInfo), AT(BodyJointsLocateInfo, baseSpace), AT(BodyJointsLocateInfo, time),
    SIZE(BodySkeletonJointFB), AT(BodySkeletonJointFB, pose),
    SIZE(BodySkeletonFB), AT(BodySkeletonFB, joints),
    SIZE(BodyJointLocationsFB), AT(BodyJointLocationsFB, confidence), AT(BodyJointLocationsFB, jointLocations),
    AT(BodyJointLocationsFB, skeletonChangedCount), AT(BodyJointLocationsFB, time),
    SIZE(BodyJointLocationsBD), AT(BodyJointLocationsBD, jointLocationCount), AT(BodyJointLocationsBD, jointLocations),
    SIZE(SpacesLocateInfo), AT(SpacesLocateInfo, baseSpace), AT(SpacesLocateInfo, time),
    AT(SpacesLocateInfo, spaceCount), AT(SpacesLocateInfo, spaces), SIZE(SpaceLocations),
    AT(SpaceLocations, locationCount), AT(SpaceLocations, locations), SIZE(SpaceLocationData),
    AT(SpaceLocationData, pose),
    SIZE(XrHandJointLocationEXT), AT(XrHandJointLocationEXT, pose), AT(XrHandJointLocationEXT, radius),
    SIZE(XrHandJointLocationsEXT), AT(XrHandJointLocationsEXT, jointLocations),
    {"TYPE_BODY_TRACKER_CREATE_INFO_FB", TYPE_BODY_TRACKER_CREATE_INFO_FB},
    {"TYPE_BODY_JOINTS_LOCATE_INFO_FB", TYPE_BODY_JOINTS_LOCATE_INFO_FB},
    {"TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_FB", TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_FB},
    {"TYPE_BODY_JOINT_LOCATIONS_FB", TYPE_BODY_JOINT_LOCATIONS_FB},
    {"TYPE_BODY_SKELETON_FB", TYPE_BODY_SKELETON_FB},
    {"TYPE_BODY_TRACKER_CREATE_INFO_BD", TYPE_BODY_TRACKER_CREATE_INFO_BD},
    {"TYPE_BODY_JOINTS_LOCATE_INFO_BD", TYPE_BODY_JOINTS_LOCATE_INFO_BD},
    {"TYPE_BODY_JOINT_LOCATIONS_BD", TYPE_BODY_JOINT_LOCATIONS_BD},
    {"TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_BD", TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_BD},
    {"TYPE_SPACES_LOCATE_INFO", TYPE_SPACES_LOCATE_INFO},
    {"TYPE_SPACE_LOCATIONS", TYPE_SPACE_LOCATIONS},
    {"REFERENCE_SPACE_LOCAL_FLOOR", REFERENCE_SPACE_LOCAL_FLOOR},
};

/* Entry `index`: its name into `name` (capacity bytes) and its value; 0 past the end. */
__attribute__((visibility("default"))) int test_runtime_layout(
    uint32_t index, char *name, size_t capacity, uint64_t *value) {
    if (index >= sizeof(LAYOUT) / sizeof(LAYOUT[0])) return 0;
    strncpy(name, LAYOUT[index].name, capacity - 1);
    name[capacity - 1] = '\0';
    *value = LAYOUT[index].value;
    return 1;
}
