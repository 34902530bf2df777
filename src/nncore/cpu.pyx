"""What the CPU can execute: the x86-64 level, asked of the compiler's runtime."""

cdef extern from *:
    """
    static int nn_x86_level(void) {
    #if defined(__x86_64__)
        __builtin_cpu_init();
        if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt")) return 1;
        if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("bmi2")) return 2;
        if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512cd")
            || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) return 3;
        return 4;
    #else
        return 0;
    #endif
    }
    """
    int nn_x86_level() noexcept nogil


def x86_level():
    """1 to 4: the highest x86-64-vN level that CPU and operating system support; 0 on other architectures."""
    return nn_x86_level()
