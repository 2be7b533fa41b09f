/* Spaces, hands and bodies: where the scripted points are at the moment asked for. */
#include <math.h>
#include <string.h>

#include "runtime.h"

enum { SPACES = 32 };

typedef struct Space {
    bool alive;
    XrReferenceSpaceType reference; /* 0: an action space */
    XrAction action;
    XrPath subaction;
    FixedPose offset;
} Space;
typedef struct Tracker {
    bool alive;
    int side;
} Tracker;

static Space spaces[SPACES];
static uint32_t space_count;
static Tracker hand_trackers[2], fb_tracker, bd_tracker;

static const uint64_t ALL_FLAGS = XR_SPACE_LOCATION_ORIENTATION_VALID_BIT | XR_SPACE_LOCATION_POSITION_VALID_BIT |
                                  XR_SPACE_LOCATION_ORIENTATION_TRACKED_BIT | XR_SPACE_LOCATION_POSITION_TRACKED_BIT;

void forget_tracking(void) {
    space_count = 0;
    hand_trackers[0].alive = hand_trackers[1].alive = fb_tracker.alive = bd_tracker.alive = false;
}

/* ---- rotations, xyzw */

static void multiply(const double a[4], const double b[4], double out[4]) {
    double x = a[3] * b[0] + b[3] * a[0] + a[1] * b[2] - a[2] * b[1];
    double y = a[3] * b[1] + b[3] * a[1] + a[2] * b[0] - a[0] * b[2];
    double z = a[3] * b[2] + b[3] * a[2] + a[0] * b[1] - a[1] * b[0];
    double w = a[3] * b[3] - a[0] * b[0] - a[1] * b[1] - a[2] * b[2];
    out[0] = x, out[1] = y, out[2] = z, out[3] = w;
}

static void turn(const double q[4], const double v[3], double out[3]) {
    double vector[4] = {v[0], v[1], v[2], 0.0}, conjugate[4] = {-q[0], -q[1], -q[2], q[3]}, half[4], full[4];
    multiply(q, vector, half);
    multiply(half, conjugate, full);
    memcpy(out, full, 3 * sizeof(double));
}

static FixedPose compose(FixedPose a, FixedPose b) {
    FixedPose out;
    double turned[3];
    turn(a.orientation, b.position, turned);
    for (int k = 0; k < 3; ++k) out.position[k] = a.position[k] + turned[k];
    multiply(a.orientation, b.orientation, out.orientation);
    return out;
}

static FixedPose invert(FixedPose a) {
    FixedPose out = {.orientation = {-a.orientation[0], -a.orientation[1], -a.orientation[2], a.orientation[3]}};
    turn(out.orientation, a.position, out.position);
    for (int k = 0; k < 3; ++k) out.position[k] = -out.position[k];
    return out;
}

static FixedPose at(const ScriptedPose *pose, XrTime time) {
    double elapsed_s = 1e-9 * (double)(time - pose->origin_ns);
    double rate = sqrt(pose->spin[0] * pose->spin[0] + pose->spin[1] * pose->spin[1] + pose->spin[2] * pose->spin[2]);
    double half = 0.5 * rate * elapsed_s, scale = rate > 0.0 ? sin(half) / rate : 0.0;
    double spin[4] = {scale * pose->spin[0], scale * pose->spin[1], scale * pose->spin[2], cos(half)};
    FixedPose out;
    for (int k = 0; k < 3; ++k) out.position[k] = pose->position[k] + elapsed_s * pose->velocity[k];
    multiply(spin, pose->orientation, out.orientation);
    return out;
}

static XrPosef told(FixedPose pose) {
    return (XrPosef){
        {(float)pose.orientation[0], (float)pose.orientation[1], (float)pose.orientation[2], (float)pose.orientation[3]},
        {(float)pose.position[0], (float)pose.position[1], (float)pose.position[2]},
    };
}

static FixedPose fixed(const XrPosef *pose) {
    return (FixedPose){
        {pose->position.x, pose->position.y, pose->position.z},
        {pose->orientation.x, pose->orientation.y, pose->orientation.z, pose->orientation.w},
    };
}

/* ---- spaces */

static Space *space_of(XrSpace handle) {
    for (uint32_t k = 0; k < space_count; ++k)
        if (handle == (XrSpace)&spaces[k] && spaces[k].alive) return &spaces[k];
    return NULL;
}

static XrResult add_space(Space made, XrSpace *space) {
    if (space_count == SPACES) return XR_ERROR_LIMIT_REACHED;
    made.alive = true;
    spaces[space_count] = made;
    *space = (XrSpace)&spaces[space_count++];
    return XR_SUCCESS;
}

static uint32_t offered_spaces(XrReferenceSpaceType types[4]) {
    uint32_t count = 0;
    types[count++] = XR_REFERENCE_SPACE_TYPE_VIEW;
    types[count++] = XR_REFERENCE_SPACE_TYPE_LOCAL;
    if ((READ(spaces) & 1) && (the_instance.minor >= 1 || enabled(EXT_LOCAL_FLOOR)))
        types[count++] = REFERENCE_SPACE_LOCAL_FLOOR;
    if (READ(spaces) & 2) types[count++] = XR_REFERENCE_SPACE_TYPE_STAGE;
    return count;
}

static XrResult EnumerateReferenceSpaces(
    XrSession session, uint32_t capacity, uint32_t *count, XrReferenceSpaceType *types) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    XrReferenceSpaceType offered[4];
    *count = offered_spaces(offered);
    if (capacity == 0) return XR_SUCCESS;
    if (capacity < *count) return XR_ERROR_SIZE_INSUFFICIENT;
    memcpy(types, offered, *count * sizeof(types[0]));
    return XR_SUCCESS;
}

static XrResult CreateReferenceSpace(XrSession session, const XrReferenceSpaceCreateInfo *info, XrSpace *space) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    XrReferenceSpaceType offered[4];
    uint32_t count = offered_spaces(offered);
    for (uint32_t k = 0; k < count; ++k)
        if (offered[k] == info->referenceSpaceType)
            return add_space(
                (Space){.reference = offered[k], .offset = fixed(&info->poseInReferenceSpace)}, space);
    return bad_call(XR_ERROR_REFERENCE_SPACE_UNSUPPORTED);
}

static XrResult CreateActionSpace(XrSession session, const XrActionSpaceCreateInfo *info, XrSpace *space) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    return add_space(
        (Space){.action = info->action, .subaction = info->subactionPath, .offset = fixed(&info->poseInActionSpace)},
        space);
}

static XrResult DestroySpace(XrSpace handle) {
    Space *space = space_of(handle);
    if (space == NULL) return bad_call(XR_ERROR_HANDLE_INVALID);
    space->alive = false;
    return XR_SUCCESS;
}

/* Where a space is in the world, and what of that is known. */
static FixedPose in_world(const Space *space, XrTime time, uint64_t *flags) {
    FixedPose pose = {.orientation = {0, 0, 0, 1}};
    *flags = ALL_FLAGS;
    if (space->reference == 0) {
        ScriptedPose scripted;
        *flags = 0;
        if (action_pose(space->action, space->subaction, &scripted)) {
            pose = at(&scripted, time);
            *flags = scripted.flags;
        }
    } else if (space->reference == XR_REFERENCE_SPACE_TYPE_VIEW) {
        ScriptedPose scripted = READ(head);
        pose = at(&scripted, time);
        *flags = scripted.flags;
        shared->happened.located_ns = time;
        shared->happened.located_monotonic_ns = monotonic_ns();
    } else if (space->reference == XR_REFERENCE_SPACE_TYPE_LOCAL) {
        pose = READ(local);
    } else if (space->reference == XR_REFERENCE_SPACE_TYPE_STAGE) {
        pose = READ(stage);
    }
    return compose(pose, space->offset);
}

static XrResult LocateSpace(XrSpace handle, XrSpace base_handle, XrTime time, XrSpaceLocation *location) {
    XrResult result = check_session(XR_SESSION);
    if (result != XR_SUCCESS) return result;
    Space *space = space_of(handle), *base = space_of(base_handle);
    if (space == NULL || base == NULL) return bad_call(XR_ERROR_HANDLE_INVALID);
    if (time <= 0) return bad_call(XR_ERROR_TIME_INVALID);
    if (location->type != XR_TYPE_SPACE_LOCATION) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    uint64_t flags, base_flags;
    FixedPose pose = in_world(space, time, &flags), from = in_world(base, time, &base_flags);
    location->locationFlags = flags & base_flags;
    location->pose = told(compose(invert(from), pose));
    return XR_SUCCESS;
}

static XrResult locate_spaces(const SpacesLocateInfo *info, SpaceLocations *locations) {
    if (info->type != TYPE_SPACES_LOCATE_INFO || locations->type != TYPE_SPACE_LOCATIONS || info->spaceCount == 0 ||
        locations->locationCount != info->spaceCount)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    shared->happened.spaces_at_once += 1;
    for (uint32_t k = 0; k < info->spaceCount; ++k) {
        XrSpaceLocation one = {.type = XR_TYPE_SPACE_LOCATION};
        XrResult result = LocateSpace(info->spaces[k], info->baseSpace, info->time, &one);
        if (result != XR_SUCCESS) return result;
        locations->locations[k] = (SpaceLocationData){one.locationFlags, one.pose};
    }
    return XR_SUCCESS;
}

static XrResult LocateSpaces(XrSession session, const SpacesLocateInfo *info, SpaceLocations *locations) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    return the_instance.minor < 1 ? bad_call(XR_ERROR_FUNCTION_UNSUPPORTED) : locate_spaces(info, locations);
}

static XrResult LocateSpacesKHR(XrSession session, const SpacesLocateInfo *info, SpaceLocations *locations) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    return enabled(EXT_LOCATE_SPACES) ? locate_spaces(info, locations) : bad_call(XR_ERROR_FUNCTION_UNSUPPORTED);
}

static XrResult LocateViews(XrSession session, const XrViewLocateInfo *info, XrViewState *state, uint32_t capacity,
    uint32_t *count, XrView *views) {
    (void)info, (void)capacity, (void)views;
    state->viewStateFlags = 0;
    *count = 2;
    return check_session(session);
}

static XrResult GetReferenceSpaceBoundsRect(XrSession session, XrReferenceSpaceType type, XrExtent2Df *bounds) {
    (void)type;
    *bounds = (XrExtent2Df){0, 0};
    XrResult result = check_session(session);
    return result == XR_SUCCESS ? XR_SPACE_BOUNDS_UNAVAILABLE : result;
}

/* ---- hands */

static XrResult CreateHandTrackerEXT(
    XrSession session, const XrHandTrackerCreateInfoEXT *info, XrHandTrackerEXT *tracker) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!enabled(EXT_HAND_TRACKING)) return bad_call(XR_ERROR_FUNCTION_UNSUPPORTED);
    if (!READ(hands_supported)) return bad_call(XR_ERROR_FEATURE_UNSUPPORTED);
    if (info->hand < 1 || info->hand > 2) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    hand_trackers[info->hand - 1] = (Tracker){true, (int)info->hand - 1};
    *tracker = (XrHandTrackerEXT)&hand_trackers[info->hand - 1];
    return XR_SUCCESS;
}

static XrResult DestroyHandTrackerEXT(XrHandTrackerEXT tracker) {
    ((Tracker *)tracker)->alive = false;
    return XR_SUCCESS;
}

static XrResult LocateHandJointsEXT(
    XrHandTrackerEXT handle, const XrHandJointsLocateInfoEXT *info, XrHandJointLocationsEXT *locations) {
    XrResult result = check_session(XR_SESSION);
    if (result != XR_SUCCESS) return result;
    Tracker *tracker = (Tracker *)handle;
    Space *base = space_of(info->baseSpace);
    if (!tracker->alive || base == NULL) return bad_call(XR_ERROR_HANDLE_INVALID);
    if (locations->jointCount != HAND_JOINTS || locations->jointLocations == NULL)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    ScriptedHand hand = READ(hands[tracker->side]);
    uint64_t base_flags;
    FixedPose from = invert(in_world(base, info->time, &base_flags));
    locations->isActive = hand.active != 0;
    for (int k = 0; k < HAND_JOINTS; ++k) {
        XrHandJointLocationEXT *joint = &locations->jointLocations[k];
        joint->locationFlags = hand.active ? hand.joints[k].flags : 0;
        joint->pose = told(compose(from, at(&hand.joints[k], info->time)));
        joint->radius = 0.01f;
    }
    return XR_SUCCESS;
}

/* ---- bodies */

static XrResult CreateBodyTrackerFB(XrSession session, const BodyTrackerCreateInfo *info, BodyTrackerFB *tracker) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!enabled(EXT_FB_BODY)) return bad_call(XR_ERROR_FUNCTION_UNSUPPORTED);
    if (!READ(fb_supported)) return bad_call(XR_ERROR_FEATURE_UNSUPPORTED);
    if (info->type != TYPE_BODY_TRACKER_CREATE_INFO_FB || info->jointSet != 0)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    fb_tracker.alive = true;
    *tracker = (BodyTrackerFB)&fb_tracker;
    return XR_SUCCESS;
}

static XrResult DestroyBodyTrackerFB(BodyTrackerFB tracker) {
    ((Tracker *)tracker)->alive = false;
    return XR_SUCCESS;
}

static void locate_joints(
    const ScriptedPose *scripted, int count, FixedPose from, XrTime time, bool active, BodyJointLocation *locations) {
    for (int k = 0; k < count; ++k) {
        locations[k].locationFlags = active ? scripted[k].flags : 0;
        locations[k].pose = told(compose(from, at(&scripted[k], time)));
    }
}

static XrResult LocateBodyJointsFB(
    BodyTrackerFB handle, const BodyJointsLocateInfo *info, BodyJointLocationsFB *locations) {
    XrResult result = check_session(XR_SESSION);
    if (result != XR_SUCCESS) return result;
    Space *base = space_of(info->baseSpace);
    if (handle != (BodyTrackerFB)&fb_tracker || !fb_tracker.alive || base == NULL)
        return bad_call(XR_ERROR_HANDLE_INVALID);
    if (info->type != TYPE_BODY_JOINTS_LOCATE_INFO_FB || locations->type != TYPE_BODY_JOINT_LOCATIONS_FB ||
        locations->jointCount != FB_JOINTS || locations->jointLocations == NULL)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    static ScriptedPose joints[FB_JOINTS];
    read_script(joints, shared->script.fb, sizeof(joints));
    uint64_t base_flags;
    FixedPose from = invert(in_world(base, info->time, &base_flags));
    locations->isActive = READ(fb_active) != 0;
    locations->confidence = locations->isActive ? 1.0f : 0.0f;
    locations->skeletonChangedCount = READ(fb_skeleton_count);
    locations->time = info->time;
    locate_joints(joints, FB_JOINTS, from, info->time, locations->isActive, locations->jointLocations);
    return XR_SUCCESS;
}

static XrResult GetBodySkeletonFB(BodyTrackerFB handle, BodySkeletonFB *skeleton) {
    XrResult result = check_session(XR_SESSION);
    if (result != XR_SUCCESS) return result;
    if (handle != (BodyTrackerFB)&fb_tracker || !fb_tracker.alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    if (skeleton->type != TYPE_BODY_SKELETON_FB || skeleton->jointCount != FB_JOINTS || skeleton->joints == NULL)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    for (int k = 0; k < FB_JOINTS; ++k) {
        skeleton->joints[k].joint = k;
        skeleton->joints[k].parentJoint = k - 1;
        skeleton->joints[k].pose = told(READ(fb_skeleton[k]));
    }
    return XR_SUCCESS;
}

static XrResult CreateBodyTrackerBD(XrSession session, const BodyTrackerCreateInfo *info, BodyTrackerBD *tracker) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!enabled(EXT_BD_BODY)) return bad_call(XR_ERROR_FUNCTION_UNSUPPORTED);
    if (!READ(bd_supported)) return bad_call(XR_ERROR_FEATURE_UNSUPPORTED);
    if (info->type != TYPE_BODY_TRACKER_CREATE_INFO_BD || info->jointSet != BD_FULL_BODY)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    bd_tracker.alive = true;
    *tracker = (BodyTrackerBD)&bd_tracker;
    return XR_SUCCESS;
}

static XrResult DestroyBodyTrackerBD(BodyTrackerBD tracker) {
    ((Tracker *)tracker)->alive = false;
    return XR_SUCCESS;
}

static XrResult LocateBodyJointsBD(
    BodyTrackerBD handle, const BodyJointsLocateInfo *info, BodyJointLocationsBD *locations) {
    XrResult result = check_session(XR_SESSION);
    if (result != XR_SUCCESS) return result;
    Space *base = space_of(info->baseSpace);
    if (handle != (BodyTrackerBD)&bd_tracker || !bd_tracker.alive || base == NULL)
        return bad_call(XR_ERROR_HANDLE_INVALID);
    if (info->type != TYPE_BODY_JOINTS_LOCATE_INFO_BD || locations->type != TYPE_BODY_JOINT_LOCATIONS_BD ||
        locations->jointLocationCount != BD_JOINTS || locations->jointLocations == NULL)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    static ScriptedPose joints[BD_JOINTS];
    read_script(joints, shared->script.bd, sizeof(joints));
    uint64_t base_flags;
    FixedPose from = invert(in_world(base, info->time, &base_flags));
    bool active = READ(bd_active) != 0, all = active;
    for (int k = 0; k < BD_JOINTS; ++k) all = all && joints[k].flags == ALL_FLAGS;
    locations->allJointPosesTracked = all;
    locate_joints(joints, BD_JOINTS, from, info->time, active, locations->jointLocations);
    return XR_SUCCESS;
}

static const NamedFunction FUNCTIONS[] = {
    ENTRY(EnumerateReferenceSpaces),
    ENTRY(CreateReferenceSpace),
    ENTRY(CreateActionSpace),
    ENTRY(DestroySpace),
    ENTRY(LocateSpace),
    ENTRY(LocateSpaces),
    ENTRY(LocateSpacesKHR),
    ENTRY(LocateViews),
    ENTRY(GetReferenceSpaceBoundsRect),
    ENTRY(CreateHandTrackerEXT),
    ENTRY(DestroyHandTrackerEXT),
    ENTRY(LocateHandJointsEXT),
    ENTRY(CreateBodyTrackerFB),
    ENTRY(DestroyBodyTrackerFB),
    ENTRY(LocateBodyJointsFB),
    ENTRY(GetBodySkeletonFB),
    ENTRY(CreateBodyTrackerBD),
    ENTRY(DestroyBodyTrackerBD),
    ENTRY(LocateBodyJointsBD),
};

PFN_xrVoidFunction tracking_function(const char *name) { return FIND(FUNCTIONS, name); }
