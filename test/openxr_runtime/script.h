/* What the test tells the runtime and what the runtime tells the test: one struct in a shared file. Its twin in
 * Python is openxr_script.py; a test compares the two. All fields are 4 or 8 bytes wide and stand at their own width. */
#ifndef TEST_RUNTIME_SCRIPT_H
#define TEST_RUNTIME_SCRIPT_H

#include "declarations.h"

#define HAND_JOINTS 26
#define COMPONENTS 20
#define PROFILES 8

enum Extension {
    EXT_HEADLESS,
    EXT_TIMESPEC,
    EXT_HAND_TRACKING,
    EXT_HAND_INTERACTION,
    EXT_FB_BODY,
    EXT_BD_BODY,
    EXT_BD_CONTROLLER,
    EXT_LOCAL_FLOOR,
    EXT_LOCATE_SPACES,
    EXTENSIONS
};

/* A point that moves at constant speed and turns at a constant rate about an axis of the base frame:
 * what it is at `origin_ns` (XrTime). */
typedef struct ScriptedPose {
    double position[3], orientation[4]; /* m; xyzw */
    double velocity[3], spin[3];        /* m/s; rad/s */
    int64_t origin_ns;
    uint64_t flags; /* XrSpaceLocationFlags */
} ScriptedPose;

typedef struct FixedPose {
    double position[3], orientation[4];
} FixedPose;

typedef struct ScriptedController {
    uint32_t profile; /* index into PROFILE_NAMES, 0: none */
    float components[COMPONENTS];
    uint32_t padding;
    ScriptedPose grip, aim;
} ScriptedController;

typedef struct ScriptedHand {
    uint32_t active, padding;
    ScriptedPose joints[HAND_JOINTS];
} ScriptedHand;

typedef struct Script {
    uint32_t sequence; /* odd while the test writes what follows */
    uint32_t present;  /* 0: no instance can be made */
    uint32_t minor;    /* highest API version 1.minor */
    uint32_t extensions;
    uint32_t headset_present;
    uint32_t hands_supported, fb_supported, bd_supported;
    uint32_t refused_profiles; /* bit per profile */
    uint32_t spaces;           /* bit 0 LOCAL_FLOOR, bit 1 STAGE */
    uint32_t focused;
    uint32_t instance_lost, session_lost;
    int32_t failure; /* not 0: what xrSyncActions returns */
    uint32_t exits, recentres, profile_changes; /* counted up: once more of it */
    uint32_t fb_active, bd_active, fb_skeleton_count;
    uint32_t frozen; /* no call returns while it is set */
    uint32_t padding;
    int64_t time_shift_ns; /* XrTime less CLOCK_MONOTONIC at `time_origin_ns` */
    int64_t time_origin_ns;
    double time_rate; /* ns of XrTime per ns */
    FixedPose local, stage; /* of those spaces in the world; LOCAL_FLOOR is the world */
    ScriptedPose head;
    ScriptedController controllers[2];
    ScriptedHand hands[2];
    ScriptedPose fb[FB_JOINTS], bd[BD_JOINTS];
    FixedPose fb_skeleton[FB_JOINTS];
} Script;

typedef struct Happened {
    uint32_t instances_made, instances_destroyed, sessions_made, sessions_begun, sessions_ended;
    uint32_t state; /* XrSessionState last told */
    uint32_t syncs, bad_calls;
    uint32_t suggested; /* bit per profile */
    uint32_t haptic_applied[2], haptic_stopped[2];
    float haptic_amplitude[2];
    uint32_t api_minor, enabled_extensions;
    uint32_t frozen_calls;  /* that have waited, or do */
    uint32_t spaces_at_once; /* calls of xrLocateSpaces */
    int64_t haptic_duration_ns[2];
    int64_t located_ns, located_monotonic_ns; /* XrTime last asked of the head; CLOCK_MONOTONIC when it was */
} Happened;

typedef struct Shared {
    Script script;
    Happened happened;
} Shared;

extern Shared *shared;
extern const char *const EXTENSION_NAMES[EXTENSIONS];
extern const char *const PROFILE_NAMES[PROFILES];
extern const char *const COMPONENT_NAMES[COMPONENTS];

/* Copy `size` bytes of the script at `from` as they were between two writes. */
void read_script(void *to, const void *from, size_t size);

#define READ(field)                                                  \
    __extension__({                                                  \
        __typeof__(shared->script.field) value_;                     \
        read_script(&value_, &shared->script.field, sizeof(value_)); \
        value_;                                                      \
    })

#endif
