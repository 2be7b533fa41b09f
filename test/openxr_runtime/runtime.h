/* The state of the test runtime: one instance, one session. */
#ifndef TEST_RUNTIME_H
#define TEST_RUNTIME_H

#include <stdbool.h>

#include "script.h"

typedef struct Instance {
    bool alive;
    uint32_t minor;
    uint32_t extensions; /* bit per enabled extension */
} Instance;

typedef struct Session {
    bool alive, running, exiting, attached;
    XrSessionState state;
    uint32_t exits_seen, recentres_seen, profile_changes_seen;
} Session;

extern Instance the_instance;
extern Session the_session;

#define XR_INSTANCE ((XrInstance)&the_instance)
#define XR_SESSION ((XrSession)&the_session)

bool enabled(enum Extension extension);
/* What every call begins with: XR_SUCCESS, or why it fails. A handle that is none of ours is counted as a bad call. */
XrResult check_instance(XrInstance instance);
XrResult check_session(XrSession session);
XrResult bad_call(XrResult result);

void forget_session(void);
void forget_actions(void);
void forget_tracking(void);
int64_t monotonic_ns(void);
int64_t xr_time_of(int64_t monotonic_ns);
int64_t monotonic_of(int64_t xr_time);

/* Of actions.c, for the spaces in tracking.c: the pose an action space follows, false while there is none. */
bool action_pose(XrAction action, XrPath subaction, ScriptedPose *pose);
XrResult next_input_event(XrEventDataBuffer *event);

/* Each file's functions by name; NULL where it has none of that name. */
PFN_xrVoidFunction session_function(const char *name);
PFN_xrVoidFunction actions_function(const char *name);
PFN_xrVoidFunction tracking_function(const char *name);

typedef struct NamedFunction {
    const char *name;
    PFN_xrVoidFunction function;
} NamedFunction;
PFN_xrVoidFunction find_function(const NamedFunction *functions, size_t count, const char *name);
#define ENTRY(name) {"xr" #name, (PFN_xrVoidFunction)name}
#define FIND(functions, name) find_function(functions, sizeof(functions) / sizeof(functions[0]), name)

#endif
