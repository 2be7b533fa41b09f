/* The loader's way in, the instance, the system, and time. */
#include "runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Shared *shared;
Instance the_instance;

const char *const EXTENSION_NAMES[EXTENSIONS] = {
    "XR_MND_headless",     "XR_KHR_convert_timespec_time", "XR_EXT_hand_tracking",
    "XR_EXT_hand_interaction", "XR_FB_body_tracking",      "XR_BD_body_tracking",
    "XR_BD_controller_interaction", "XR_EXT_local_floor", "XR_KHR_locate_spaces",
};

/* The script that the environment names now: the library may stay loaded from one test to the next. */
static bool open_shared(void) {
    static char opened[4096];
    const char *path = getenv("TELEOP_TEST_OPENXR_SCRIPT");
    if (path == NULL) return false;
    if (shared != NULL && strcmp(path, opened) == 0) return true;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return false;
    void *place = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (place == MAP_FAILED) return false;
    if (shared != NULL) munmap(shared, sizeof(Shared));
    shared = place;
    snprintf(opened, sizeof(opened), "%s", path);
    return true;
}

void read_script(void *to, const void *from, size_t size) {
    for (;;) {
        uint32_t before = __atomic_load_n(&shared->script.sequence, __ATOMIC_ACQUIRE);
        memcpy(to, from, size);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        uint32_t after = __atomic_load_n(&shared->script.sequence, __ATOMIC_RELAXED);
        if (before == after && before % 2 == 0) return;
        usleep(20);
    }
}

PFN_xrVoidFunction find_function(const NamedFunction *functions, size_t count, const char *name) {
    for (size_t k = 0; k < count; ++k)
        if (strcmp(functions[k].name, name) == 0) return functions[k].function;
    return NULL;
}

bool enabled(enum Extension extension) { return (the_instance.extensions >> extension) & 1; }

XrResult bad_call(XrResult result) {
    shared->happened.bad_calls += 1;
    return result;
}

static void wait_while_frozen(void) {
    if (!READ(frozen)) return;
    shared->happened.frozen_calls += 1;
    while (READ(frozen)) usleep(1000);
}

XrResult check_instance(XrInstance instance) {
    wait_while_frozen();
    if (instance != XR_INSTANCE || !the_instance.alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    return READ(instance_lost) ? XR_ERROR_INSTANCE_LOST : XR_SUCCESS;
}

XrResult check_session(XrSession session) {
    XrResult result = check_instance(XR_INSTANCE);
    if (result != XR_SUCCESS) return result;
    if (session != XR_SESSION || !the_session.alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    return READ(session_lost) ? XR_ERROR_SESSION_LOST : XR_SUCCESS;
}

/* ---- time */

int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

int64_t xr_time_of(int64_t moment_ns) {
    int64_t since = moment_ns - READ(time_origin_ns);
    return READ(time_origin_ns) + READ(time_shift_ns) + since + (int64_t)((READ(time_rate) - 1.0) * (double)since);
}

int64_t monotonic_of(int64_t xr_time) {
    int64_t since = xr_time - READ(time_origin_ns) - READ(time_shift_ns);
    double rate = READ(time_rate);
    return READ(time_origin_ns) + since + (int64_t)((1.0 / rate - 1.0) * (double)since);
}

static XrResult ConvertTimespecTimeToTimeKHR(XrInstance instance, const struct timespec *moment, XrTime *time) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (!enabled(EXT_TIMESPEC)) return bad_call(XR_ERROR_FUNCTION_UNSUPPORTED);
    *time = xr_time_of(moment->tv_sec * INT64_C(1000000000) + moment->tv_nsec);
    return XR_SUCCESS;
}

static XrResult ConvertTimeToTimespecTimeKHR(XrInstance instance, XrTime time, struct timespec *moment) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (!enabled(EXT_TIMESPEC)) return bad_call(XR_ERROR_FUNCTION_UNSUPPORTED);
    int64_t moment_ns = monotonic_of(time);
    moment->tv_sec = moment_ns / 1000000000;
    moment->tv_nsec = moment_ns % 1000000000;
    return XR_SUCCESS;
}

/* ---- instance */

static XrResult EnumerateInstanceExtensionProperties(
    const char *layer, uint32_t capacity, uint32_t *count, XrExtensionProperties *properties) {
    if (layer != NULL) return XR_ERROR_API_LAYER_NOT_PRESENT;
    if (!the_instance.alive && !open_shared()) return XR_ERROR_INITIALIZATION_FAILED;
    uint32_t offered = READ(extensions), n = 0;
    for (int k = 0; k < EXTENSIONS; ++k) n += (offered >> k) & 1;
    *count = n;
    if (capacity == 0) return XR_SUCCESS;
    if (capacity < n) return XR_ERROR_SIZE_INSUFFICIENT;
    uint32_t i = 0;
    for (int k = 0; k < EXTENSIONS; ++k) {
        if (!((offered >> k) & 1)) continue;
        if (properties[i].type != XR_TYPE_EXTENSION_PROPERTIES) return bad_call(XR_ERROR_VALIDATION_FAILURE);
        snprintf(properties[i].extensionName, XR_MAX_EXTENSION_NAME_SIZE, "%s", EXTENSION_NAMES[k]);
        properties[i++].extensionVersion = 1;
    }
    return XR_SUCCESS;
}

static XrResult CreateInstance(const XrInstanceCreateInfo *info, XrInstance *instance) {
    if (!the_instance.alive && !open_shared()) return XR_ERROR_INITIALIZATION_FAILED;
    wait_while_frozen();
    if (!READ(present)) return RESULT_RUNTIME_UNAVAILABLE;
    if (info->type != XR_TYPE_INSTANCE_CREATE_INFO) return bad_call(XR_ERROR_VALIDATION_FAILURE);
    XrVersion asked = info->applicationInfo.apiVersion;
    if (XR_VERSION_MAJOR(asked) != 1 || XR_VERSION_MINOR(asked) > READ(minor)) return XR_ERROR_API_VERSION_UNSUPPORTED;
    if (the_instance.alive) return bad_call(XR_ERROR_LIMIT_REACHED);
    uint32_t asked_extensions = 0;
    for (uint32_t i = 0; i < info->enabledExtensionCount; ++i) {
        int found = -1;
        for (int k = 0; k < EXTENSIONS; ++k)
            if (((READ(extensions) >> k) & 1) && strcmp(info->enabledExtensionNames[i], EXTENSION_NAMES[k]) == 0)
                found = k;
        /* the loader's own extensions (debug utils) never come this far */
        if (found < 0) return bad_call(XR_ERROR_EXTENSION_NOT_PRESENT);
        asked_extensions |= 1u << found;
    }
    forget_session();
    the_instance = (Instance){.alive = true, .minor = XR_VERSION_MINOR(asked), .extensions = asked_extensions};
    shared->happened.instances_made += 1;
    shared->happened.api_minor = the_instance.minor;
    shared->happened.enabled_extensions = asked_extensions;
    *instance = XR_INSTANCE;
    return XR_SUCCESS;
}

static XrResult DestroyInstance(XrInstance instance) {
    wait_while_frozen();
    /* A lost instance may be destroyed, and has to be. */
    if (instance != XR_INSTANCE || !the_instance.alive) return bad_call(XR_ERROR_HANDLE_INVALID);
    forget_session();
    the_instance.alive = false;
    shared->happened.instances_destroyed += 1;
    return XR_SUCCESS;
}

static XrResult GetInstanceProperties(XrInstance instance, XrInstanceProperties *properties) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    properties->runtimeVersion = XR_MAKE_VERSION(3, 2, 1);
    snprintf(properties->runtimeName, XR_MAX_RUNTIME_NAME_SIZE, "test runtime");
    return XR_SUCCESS;
}

static XrResult ResultToString(XrInstance instance, XrResult value, char buffer[XR_MAX_RESULT_STRING_SIZE]) {
    XrResult result = check_instance(instance);
    snprintf(buffer, XR_MAX_RESULT_STRING_SIZE, "XR_RESULT_%d", value);
    return result;
}

static XrResult StructureTypeToString(
    XrInstance instance, XrStructureType value, char buffer[XR_MAX_STRUCTURE_NAME_SIZE]) {
    XrResult result = check_instance(instance);
    snprintf(buffer, XR_MAX_STRUCTURE_NAME_SIZE, "XR_TYPE_%d", value);
    return result;
}

/* ---- system */

static XrResult GetSystem(XrInstance instance, const XrSystemGetInfo *info, XrSystemId *system) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (info->formFactor != XR_FORM_FACTOR_HEAD_MOUNTED_DISPLAY) return XR_ERROR_FORM_FACTOR_UNSUPPORTED;
    if (!READ(headset_present)) return XR_ERROR_FORM_FACTOR_UNAVAILABLE;
    *system = 1;
    return XR_SUCCESS;
}

static XrResult GetSystemProperties(XrInstance instance, XrSystemId system, XrSystemProperties *properties) {
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    if (system != 1) return bad_call(XR_ERROR_SYSTEM_INVALID);
    properties->systemId = 1;
    properties->vendorId = 0x7e57;
    snprintf(properties->systemName, XR_MAX_SYSTEM_NAME_SIZE, "test headset");
    properties->graphicsProperties = (XrSystemGraphicsProperties){2048, 2048, 16};
    properties->trackingProperties = (XrSystemTrackingProperties){XR_TRUE, XR_TRUE};
    for (XrBaseOutStructure *next = properties->next; next != NULL; next = next->next) {
        if (next->type == XR_TYPE_SYSTEM_HAND_TRACKING_PROPERTIES_EXT && enabled(EXT_HAND_TRACKING))
            ((XrSystemHandTrackingPropertiesEXT *)next)->supportsHandTracking = READ(hands_supported);
        else if (next->type == TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_FB && enabled(EXT_FB_BODY))
            ((SystemBodyTrackingProperties *)next)->supportsBodyTracking = READ(fb_supported);
        else if (next->type == TYPE_SYSTEM_BODY_TRACKING_PROPERTIES_BD && enabled(EXT_BD_BODY))
            ((SystemBodyTrackingProperties *)next)->supportsBodyTracking = READ(bd_supported);
        else
            return bad_call(XR_ERROR_VALIDATION_FAILURE);
    }
    return XR_SUCCESS;
}

static XrResult EnumerateEnvironmentBlendModes(XrInstance instance, XrSystemId system, XrViewConfigurationType view,
    uint32_t capacity, uint32_t *count, XrEnvironmentBlendMode *modes) {
    (void)system, (void)view;
    XrResult result = check_instance(instance);
    if (result != XR_SUCCESS) return result;
    *count = 1;
    if (capacity > 0) modes[0] = XR_ENVIRONMENT_BLEND_MODE_OPAQUE;
    return XR_SUCCESS;
}

/* ---- the way in */

static XrResult GetInstanceProcAddr(XrInstance instance, const char *name, PFN_xrVoidFunction *function);

static const NamedFunction FUNCTIONS[] = {
    ENTRY(GetInstanceProcAddr),
    ENTRY(EnumerateInstanceExtensionProperties),
    ENTRY(CreateInstance),
    ENTRY(DestroyInstance),
    ENTRY(GetInstanceProperties),
    ENTRY(ResultToString),
    ENTRY(StructureTypeToString),
    ENTRY(GetSystem),
    ENTRY(GetSystemProperties),
    ENTRY(EnumerateEnvironmentBlendModes),
    ENTRY(ConvertTimespecTimeToTimeKHR),
    ENTRY(ConvertTimeToTimespecTimeKHR),
};

static XrResult GetInstanceProcAddr(XrInstance instance, const char *name, PFN_xrVoidFunction *function) {
    (void)instance;
    *function = FIND(FUNCTIONS, name);
    if (*function == NULL) *function = session_function(name);
    if (*function == NULL) *function = actions_function(name);
    if (*function == NULL) *function = tracking_function(name);
    return *function == NULL ? XR_ERROR_FUNCTION_UNSUPPORTED : XR_SUCCESS;
}

__attribute__((visibility("default"))) XrResult xrNegotiateLoaderRuntimeInterface(
    const LoaderInfo *loader, RuntimeRequest *request) {
    if (loader == NULL || loader->structType != LOADER_STRUCT_LOADER_INFO ||
        loader->structSize != sizeof(LoaderInfo) || loader->minInterfaceVersion > 1 || request == NULL ||
        request->structType != LOADER_STRUCT_RUNTIME_REQUEST || request->structSize != sizeof(RuntimeRequest) ||
        !open_shared())
        return XR_ERROR_INITIALIZATION_FAILED;
    request->runtimeInterfaceVersion = 1;
    request->runtimeApiVersion = XR_MAKE_VERSION(1, READ(minor), 0);
    request->getInstanceProcAddr = GetInstanceProcAddr;
    return XR_SUCCESS;
}
