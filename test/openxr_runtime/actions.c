/* Paths, actions, suggested bindings, and what the scripted controllers say through them. */
#include <stdio.h>
#include <string.h>

#include "runtime.h"

enum { PATHS = 512, ACTIONS = 64, BINDINGS = 512, SETS = 4 };
enum Profile { NONE, TOUCH, INDEX, VIVE, PICO4, NEO3, HAND, SIMPLE };

const char *const PROFILE_NAMES[PROFILES] = {
    "",
    "/interaction_profiles/oculus/touch_controller",
    "/interaction_profiles/valve/index_controller",
    "/interaction_profiles/htc/vive_controller",
    "/interaction_profiles/bytedance/pico4_controller",
    "/interaction_profiles/bytedance/pico_neo3_controller",
    "/interaction_profiles/ext/hand_interaction_ext",
    "/interaction_profiles/khr/simple_controller",
};

const char *const COMPONENT_NAMES[COMPONENTS] = {
    "trigger/value",  "squeeze/value",    "squeeze/force",        "squeeze/click",   "thumbstick/x",
    "thumbstick/y",   "thumbstick/click", "x/click",              "y/click",         "a/click",
    "b/click",        "menu/click",       "select/click",         "trackpad/x",      "trackpad/y",
    "trackpad/click", "pinch_ext/value",  "pinch_ext/ready_ext",  "grasp_ext/value", "grasp_ext/ready_ext",
};

/* Components a profile has, left and right where the two differ ('<', '>'). Space at both ends of each. */
static const char *const PROFILE_COMPONENTS[PROFILES] = {
    "",
    " <x/click <y/click <menu/click >a/click >b/click squeeze/value trigger/value thumbstick/x thumbstick/y "
    "thumbstick/click ",
    " a/click b/click squeeze/value squeeze/force trigger/value thumbstick/x thumbstick/y thumbstick/click "
    "trackpad/x trackpad/y ",
    " squeeze/click menu/click trigger/value trackpad/x trackpad/y trackpad/click ",
    " <x/click <y/click <menu/click >a/click >b/click squeeze/value squeeze/click trigger/value thumbstick/x "
    "thumbstick/y thumbstick/click ",
    " <x/click <y/click >a/click >b/click menu/click squeeze/value squeeze/click trigger/value thumbstick/x "
    "thumbstick/y thumbstick/click ",
    " pinch_ext/value pinch_ext/ready_ext grasp_ext/value grasp_ext/ready_ext ",
    " select/click menu/click ",
};

typedef struct ActionSet {
    bool alive;
} ActionSet;
typedef struct Action {
    bool alive;
    XrActionType type;
    uint32_t subactions;
    XrPath subaction[2];
} Action;
typedef struct Binding {
    Action *action;
    enum Profile profile;
    int side;
    char component[64];
} Binding;

static char path_names[PATHS][XR_MAX_PATH_LENGTH];
static uint32_t path_count = 1; /* 0 is XR_NULL_PATH */
static ActionSet sets[SETS];
static Action actions[ACTIONS];
static Binding bindings[BINDINGS];
static uint32_t action_count, binding_count, set_count;
/* what xrSyncActions took over */
static ScriptedController synced[2];
static bool synced_focused;

void forget_actions(void) {
    action_count = binding_count = set_count = 0;
    synced_focused = false;
    shared->happened.suggested = 0;
}

static const char *const HAND_PATHS[2] = {"/user/hand/left", "/user/hand/right"};

static int side_of(XrPath path) {
    for (int side = 0; side < 2; ++side)
        if (path > 0 && path < path_count && strcmp(path_names[path], HAND_PATHS[side]) == 0) return side;
    return -1;
}

static XrResult StringToPath(XrInstance instance, const char *string, XrPath *path) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (string[0] != '/' || strlen(string) >= XR_MAX_PATH_LENGTH) return bad_call(XR_ERROR_PATH_FORMAT_INVALID);
    for (uint32_t k = 1; k < path_count; ++k)
        if (strcmp(path_names[k], string) == 0) {
            *path = k;
            return XR_SUCCESS;
        }
    if (path_count == PATHS) return XR_ERROR_PATH_COUNT_EXCEEDED;
    snprintf(path_names[path_count], XR_MAX_PATH_LENGTH, "%s", string);
    *path = path_count++;
    return XR_SUCCESS;
}

static XrResult PathToString(XrInstance instance, XrPath path, uint32_t capacity, uint32_t *count, char *buffer) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (path == 0 || path >= path_count) return bad_call(XR_ERROR_PATH_INVALID);
    *count = (uint32_t)strlen(path_names[path]) + 1;
    if (capacity == 0) return XR_SUCCESS;
    if (capacity < *count) return XR_ERROR_SIZE_INSUFFICIENT;
    memcpy(buffer, path_names[path], *count);
    return XR_SUCCESS;
}

static XrResult CreateActionSet(XrInstance instance, const XrActionSetCreateInfo *info, XrActionSet *set) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (info->actionSetName[0] == '\0' || info->localizedActionSetName[0] == '\0')
        return bad_call(XR_ERROR_NAME_INVALID);
    if (set_count == SETS) return XR_ERROR_LIMIT_REACHED;
    sets[set_count].alive = true;
    *set = (XrActionSet)&sets[set_count++];
    return XR_SUCCESS;
}

static XrResult DestroyActionSet(XrActionSet set) {
    ((ActionSet *)set)->alive = false;
    return XR_SUCCESS;
}

static XrResult CreateAction(XrActionSet set, const XrActionCreateInfo *info, XrAction *action) {
    XrResult result = check_instance(XR_INSTANCE);
    if (result != XR_SUCCESS) return result;
    if (!((ActionSet *)set)->alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    if (the_session.attached) return bad_call(XR_ERROR_ACTIONSETS_ALREADY_ATTACHED);
    if (info->countSubactionPaths > 2 || action_count == ACTIONS) return bad_call(XR_ERROR_LIMIT_REACHED);
    Action made = {.alive = true, .type = info->actionType, .subactions = info->countSubactionPaths};
    for (uint32_t k = 0; k < info->countSubactionPaths; ++k) {
        if (side_of(info->subactionPaths[k]) < 0) return bad_call(XR_ERROR_PATH_UNSUPPORTED);
        made.subaction[k] = info->subactionPaths[k];
    }
    actions[action_count] = made;
    *action = (XrAction)&actions[action_count++];
    return XR_SUCCESS;
}

static XrResult DestroyAction(XrAction action) {
    ((Action *)action)->alive = false;
    return XR_SUCCESS;
}

static bool profile_known(enum Profile profile) {
    switch (profile) {
    case PICO4:
    case NEO3:
        return the_instance.minor >= 1 || enabled(EXT_BD_CONTROLLER);
    case HAND:
        return enabled(EXT_HAND_INTERACTION);
    default:
        return profile != NONE;
    }
}

static bool profile_has(enum Profile profile, int side, const char *component) {
    const char *always[] = {"input/grip/pose", "input/aim/pose"};
    for (int k = 0; k < 2; ++k)
        if (strcmp(component, always[k]) == 0) return true;
    if (strcmp(component, "output/haptic") == 0) return profile != HAND;
    if (strncmp(component, "input/", 6) != 0) return false;
    char wanted[80];
    snprintf(wanted, sizeof(wanted), " %s ", component + 6);
    if (strstr(PROFILE_COMPONENTS[profile], wanted) != NULL) return true;
    snprintf(wanted, sizeof(wanted), " %c%s ", side == 0 ? '<' : '>', component + 6);
    return strstr(PROFILE_COMPONENTS[profile], wanted) != NULL;
}

static XrResult SuggestInteractionProfileBindings(
    XrInstance instance, const XrInteractionProfileSuggestedBinding *suggestion) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (the_session.attached) return bad_call(XR_ERROR_ACTIONSETS_ALREADY_ATTACHED);
    if (suggestion->interactionProfile == 0 || suggestion->interactionProfile >= path_count)
        return bad_call(XR_ERROR_PATH_INVALID);
    int profile = -1;
    for (int k = 1; k < PROFILES; ++k)
        if (strcmp(path_names[suggestion->interactionProfile], PROFILE_NAMES[k]) == 0) profile = k;
    if (profile < 0 || !profile_known(profile)) return bad_call(XR_ERROR_PATH_UNSUPPORTED);
    if ((READ(refused_profiles) >> profile) & 1) return XR_ERROR_PATH_UNSUPPORTED;
    for (uint32_t k = 0; k < suggestion->countSuggestedBindings; ++k) {
        const char *path = path_names[suggestion->suggestedBindings[k].binding];
        int side = strncmp(path, "/user/hand/left/", 16) == 0 ? 0 : strncmp(path, "/user/hand/right/", 17) == 0 ? 1 : -1;
        const char *component = path + (side == 0 ? 16 : 17);
        if (side < 0 || !profile_has(profile, side, component)) {
            fprintf(stderr, "test runtime: %s has no %s\n", PROFILE_NAMES[profile], path);
            return bad_call(XR_ERROR_PATH_UNSUPPORTED);
        }
        if (binding_count == BINDINGS) return XR_ERROR_LIMIT_REACHED;
        Binding *made = &bindings[binding_count++];
        made->action = (Action *)suggestion->suggestedBindings[k].action;
        made->profile = profile;
        made->side = side;
        snprintf(made->component, sizeof(made->component), "%s", component);
    }
    shared->happened.suggested |= 1u << profile;
    return XR_SUCCESS;
}

static XrResult AttachSessionActionSets(XrSession session, const XrSessionActionSetsAttachInfo *info) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (the_session.attached) return bad_call(XR_ERROR_ACTIONSETS_ALREADY_ATTACHED);
    if (info->countActionSets == 0) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    the_session.attached = true;
    return XR_SUCCESS;
}

/* The profile of a side: what is scripted, as far as somebody suggested bindings for it. */
static enum Profile profile_of(int side) {
    enum Profile profile = synced[side].profile;
    return profile < PROFILES && ((shared->happened.suggested >> profile) & 1) ? profile : NONE;
}

static XrResult GetCurrentInteractionProfile(
    XrSession session, XrPath top_level, XrInteractionProfileState *state) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!the_session.attached) return bad_call(XR_ERROR_ACTIONSET_NOT_ATTACHED);
    int side = side_of(top_level);
    if (side < 0) return bad_call(XR_ERROR_PATH_UNSUPPORTED);
    enum Profile profile = profile_of(side);
    state->interactionProfile = XR_NULL_PATH;
    return profile == NONE ? XR_SUCCESS : StringToPath(XR_INSTANCE, PROFILE_NAMES[profile], &state->interactionProfile);
}

XrResult next_input_event(XrEventDataBuffer *event) {
    if (READ(profile_changes) == the_session.profile_changes_seen || !the_session.attached) return XR_EVENT_UNAVAILABLE;
    the_session.profile_changes_seen = READ(profile_changes);
    for (int side = 0; side < 2; ++side) synced[side].profile = READ(controllers[side].profile);
    XrEventDataInteractionProfileChanged told = {
        .type = XR_TYPE_EVENT_DATA_INTERACTION_PROFILE_CHANGED, .session = XR_SESSION};
    memcpy(event, &told, sizeof(told));
    return XR_SUCCESS;
}

static XrResult SyncActions(XrSession session, const XrActionsSyncInfo *info) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!the_session.attached) return bad_call(XR_ERROR_ACTIONSET_NOT_ATTACHED);
    if (info->countActiveActionSets == 0) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    shared->happened.syncs += 1;
    if (READ(failure) != 0) return (XrResult)READ(failure);
    synced_focused = the_session.state == XR_SESSION_STATE_FOCUSED;
    if (!synced_focused) return XR_SESSION_NOT_FOCUSED;
    for (int side = 0; side < 2; ++side) {
        uint32_t profile = synced[side].profile;
        read_script(&synced[side], &shared->script.controllers[side], sizeof(ScriptedController));
        synced[side].profile = profile; /* changes with its event only */
    }
    return XR_SUCCESS;
}

/* The component an action is bound to on a side; NULL while it is not. */
static const char *bound(const Action *action, int side) {
    enum Profile profile = profile_of(side);
    for (uint32_t k = 0; k < binding_count; ++k)
        if (bindings[k].action == action && bindings[k].profile == profile && bindings[k].side == side)
            return bindings[k].component;
    return NULL;
}

static XrResult component_value(
    XrSession session, const XrActionStateGetInfo *info, XrActionType type, bool *active, float *value) {
    *active = false;
    *value = 0.0f;
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!the_session.attached) return bad_call(XR_ERROR_ACTIONSET_NOT_ATTACHED);
    Action *action = (Action *)info->action;
    if (!action->alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    if (action->type != type) return bad_call(XR_ERROR_ACTION_TYPE_MISMATCH);
    int side = side_of(info->subactionPath);
    if (side < 0) return bad_call(XR_ERROR_PATH_UNSUPPORTED);
    const char *component = synced_focused ? bound(action, side) : NULL;
    if (component == NULL) return XR_SUCCESS;
    *active = true;
    for (int k = 0; k < COMPONENTS; ++k)
        if (strcmp(component + 6, COMPONENT_NAMES[k]) == 0) *value = synced[side].components[k];
    return XR_SUCCESS;
}

static XrResult GetActionStateFloat(XrSession session, const XrActionStateGetInfo *info, XrActionStateFloat *state) {
    bool active;
    XrResult result =
        component_value(session, info, XR_ACTION_TYPE_FLOAT_INPUT, &active, &state->currentState);
    state->isActive = active;
    return result;
}

static XrResult GetActionStateBoolean(
    XrSession session, const XrActionStateGetInfo *info, XrActionStateBoolean *state) {
    bool active;
    float value;
    XrResult result = component_value(session, info, XR_ACTION_TYPE_BOOLEAN_INPUT, &active, &value);
    state->isActive = active;
    state->currentState = value > 0.5f;
    return result;
}

static XrResult GetActionStateVector2f(
    XrSession session, const XrActionStateGetInfo *info, XrActionStateVector2f *state) {
    (void)info;
    state->isActive = XR_FALSE;
    return check_session(session);
}

static XrResult GetActionStatePose(XrSession session, const XrActionStateGetInfo *info, XrActionStatePose *state) {
    bool active;
    float value;
    XrResult result = component_value(session, info, XR_ACTION_TYPE_POSE_INPUT, &active, &value);
    state->isActive = active;
    return result;
}

bool action_pose(XrAction handle, XrPath subaction, ScriptedPose *pose) {
    int side = side_of(subaction);
    const char *component = side < 0 || !synced_focused ? NULL : bound((Action *)handle, side);
    if (component == NULL) return false;
    if (strcmp(component, "input/grip/pose") == 0)
        *pose = READ(controllers[side].grip);
    else if (strcmp(component, "input/aim/pose") == 0)
        *pose = READ(controllers[side].aim);
    else
        return false;
    return true;
}

static XrResult ApplyHapticFeedback(
    XrSession session, const XrHapticActionInfo *info, const XrHapticBaseHeader *feedback) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    int side = side_of(info->subactionPath);
    const XrHapticVibration *vibration = (const XrHapticVibration *)feedback;
    if (side < 0 || vibration->type != XR_TYPE_HAPTIC_VIBRATION || vibration->amplitude < 0.0f ||
        vibration->amplitude > 1.0f)
        return bad_call(XR_ERROR_VALIDATION_FAILURE);
    if (the_session.state != XR_SESSION_STATE_FOCUSED) return XR_SESSION_NOT_FOCUSED;
    if (bound((Action *)info->action, side) == NULL) return XR_SUCCESS;
    shared->happened.haptic_amplitude[side] = vibration->amplitude;
    shared->happened.haptic_duration_ns[side] = vibration->duration;
    shared->happened.haptic_applied[side] += 1;
    return XR_SUCCESS;
}

static XrResult StopHapticFeedback(XrSession session, const XrHapticActionInfo *info) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    int side = side_of(info->subactionPath);
    if (side < 0) return bad_call(XR_ERROR_PATH_UNSUPPORTED);
    if (the_session.state != XR_SESSION_STATE_FOCUSED) return XR_SESSION_NOT_FOCUSED;
    shared->happened.haptic_stopped[side] += 1;
    return XR_SUCCESS;
}

static const NamedFunction FUNCTIONS[] = {
    ENTRY(StringToPath),
    ENTRY(PathToString),
    ENTRY(CreateActionSet),
    ENTRY(DestroyActionSet),
    ENTRY(CreateAction),
    ENTRY(DestroyAction),
    ENTRY(SuggestInteractionProfileBindings),
    ENTRY(AttachSessionActionSets),
    ENTRY(GetCurrentInteractionProfile),
    ENTRY(SyncActions),
    ENTRY(GetActionStateFloat),
    ENTRY(GetActionStateBoolean),
    ENTRY(GetActionStateVector2f),
    ENTRY(GetActionStatePose),
    ENTRY(ApplyHapticFeedback),
    ENTRY(StopHapticFeedback),
};

PFN_xrVoidFunction actions_function(const char *name) { return FIND(FUNCTIONS, name); }
