/* The session's life and the events that tell it. */
#include <string.h>

#include "runtime.h"

Session the_session;

void forget_session(void) {
    the_session = (Session){0};
    forget_actions();
    forget_tracking();
}

static XrResult CreateSession(XrInstance instance, const XrSessionCreateInfo *info, XrSession *session) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (info->systemId != 1) return bad_call(XR_ERROR_SYSTEM_INVALID);
    /* No graphics binding: only a headless session can be had here. */
    if (info->next != NULL || !enabled(EXT_HEADLESS)) return bad_call(XR_ERROR_GRAPHICS_DEVICE_INVALID);
    if (the_session.alive) return bad_call(XR_ERROR_LIMIT_REACHED);
    the_session = (Session){
        .alive = true,
        .exits_seen = READ(exits),
        .recentres_seen = READ(recentres),
        .profile_changes_seen = READ(profile_changes) - 1, /* told once at the beginning */
    };
    shared->happened.sessions_made += 1;
    *session = XR_SESSION;
    return XR_SUCCESS;
}

static XrResult DestroySession(XrSession session) {
    if (session != XR_SESSION || !the_session.alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    forget_session();
    return XR_SUCCESS;
}

static XrResult BeginSession(XrSession session, const XrSessionBeginInfo *info) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (info->type != XR_TYPE_SESSION_BEGIN_INFO) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    if (the_session.running) return bad_call(XR_ERROR_SESSION_RUNNING);
    if (the_session.state != XR_SESSION_STATE_READY) return bad_call(XR_ERROR_SESSION_NOT_READY);
    the_session.running = true;
    shared->happened.sessions_begun += 1;
    return XR_SUCCESS;
}

static XrResult EndSession(XrSession session) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!the_session.running) return bad_call(XR_ERROR_SESSION_NOT_RUNNING);
    if (the_session.state != XR_SESSION_STATE_STOPPING) return bad_call(XR_ERROR_SESSION_NOT_STOPPING);
    the_session.running = false;
    shared->happened.sessions_ended += 1;
    return XR_SUCCESS;
}

static XrResult RequestExitSession(XrSession session) {
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!the_session.running) return bad_call(XR_ERROR_SESSION_NOT_RUNNING);
    the_session.exiting = true;
    return XR_SUCCESS;
}

/* ---- states, one step at each poll */

static XrSessionState next_state(void) {
    XrSessionState state = the_session.state;
    bool running = the_session.running, leaving = the_session.exiting;
    switch (state) {
    case XR_SESSION_STATE_UNKNOWN:
        return XR_SESSION_STATE_IDLE;
    case XR_SESSION_STATE_IDLE:
        return leaving ? XR_SESSION_STATE_EXITING : XR_SESSION_STATE_READY;
    case XR_SESSION_STATE_READY:
        return running ? XR_SESSION_STATE_SYNCHRONIZED : state;
    case XR_SESSION_STATE_SYNCHRONIZED:
        return leaving ? XR_SESSION_STATE_STOPPING : XR_SESSION_STATE_VISIBLE;
    case XR_SESSION_STATE_VISIBLE:
        return leaving ? XR_SESSION_STATE_SYNCHRONIZED : READ(focused) ? XR_SESSION_STATE_FOCUSED : state;
    case XR_SESSION_STATE_FOCUSED:
        return leaving || !READ(focused) ? XR_SESSION_STATE_VISIBLE : state;
    case XR_SESSION_STATE_STOPPING:
        return running ? state : XR_SESSION_STATE_IDLE;
    default:
        return state;
    }
}

static XrResult PollEvent(XrInstance instance, XrEventDataBuffer *event) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (event->type != XR_TYPE_EVENT_DATA_BUFFER) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    if (!the_session.alive) return XR_EVENT_UNAVAILABLE;
    if (READ(exits) != the_session.exits_seen) {
        the_session.exits_seen = READ(exits);
        the_session.exiting = true;
    }
    XrSessionState state = READ(session_lost) ? XR_SESSION_STATE_LOSS_PENDING : next_state();
    if (state != the_session.state) {
        the_session.state = state;
        shared->happened.state = state;
        XrEventDataSessionStateChanged told = {
            .type = XR_TYPE_EVENT_DATA_SESSION_STATE_CHANGED,
            .session = XR_SESSION,
            .state = state,
            .time = xr_time_of(monotonic_ns()),
        };
        memcpy(event, &told, sizeof(told));
        return XR_SUCCESS;
    }
    if (READ(recentres) != the_session.recentres_seen) {
        the_session.recentres_seen = READ(recentres);
        XrEventDataReferenceSpaceChangePending told = {
            .type = XR_TYPE_EVENT_DATA_REFERENCE_SPACE_CHANGE_PENDING,
            .session = XR_SESSION,
            .referenceSpaceType = READ(spaces) & 1 ? REFERENCE_SPACE_LOCAL_FLOOR : XR_REFERENCE_SPACE_TYPE_LOCAL,
            .changeTime = xr_time_of(monotonic_ns()),
            .poseValid = XR_FALSE,
            .poseInPreviousSpace = {{0, 0, 0, 1}, {0, 0, 0}},
        };
        memcpy(event, &told, sizeof(told));
        return XR_SUCCESS;
    }
    return next_input_event(event);
}

/* ---- what a headless client may call although it shows nothing */

static XrResult EnumerateViewConfigurations(
    XrInstance instance, XrSystemId system, uint32_t capacity, uint32_t *count, XrViewConfigurationType *types) {
    (void)system;
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    *count = 1;
    if (capacity > 0) types[0] = XR_VIEW_CONFIGURATION_TYPE_PRIMARY_STEREO;
    return XR_SUCCESS;
}

static XrResult EnumerateSwapchainFormats(XrSession session, uint32_t capacity, uint32_t *count, int64_t *formats) {
    (void)capacity, (void)formats;
    *count = 0;
    return check_session(session);
}

static XrResult WaitFrame(XrSession session, const XrFrameWaitInfo *info, XrFrameState *state) {
    (void)info;
    XrResult result = check_session(session);
    if (result != XR_SUCCESS) return result;
    if (!the_session.running) return bad_call(XR_ERROR_SESSION_NOT_RUNNING);
    state->predictedDisplayTime = xr_time_of(monotonic_ns());
    state->predictedDisplayPeriod = 11111111;
    state->shouldRender = XR_FALSE;
    return XR_SUCCESS;
}

static XrResult BeginFrame(XrSession session, const XrFrameBeginInfo *info) {
    (void)info;
    return check_session(session);
}

static XrResult EndFrame(XrSession session, const XrFrameEndInfo *info) {
    (void)info;
    return check_session(session);
}

static const NamedFunction FUNCTIONS[] = {
    ENTRY(CreateSession),
    ENTRY(DestroySession),
    ENTRY(BeginSession),
    ENTRY(EndSession),
    ENTRY(RequestExitSession),
    ENTRY(PollEvent),
    ENTRY(EnumerateViewConfigurations),
    ENTRY(EnumerateSwapchainFormats),
    ENTRY(WaitFrame),
    ENTRY(BeginFrame),
    ENTRY(EndFrame),
};

PFN_xrVoidFunction session_function(const char *name) { return FIND(FUNCTIONS, name); }
