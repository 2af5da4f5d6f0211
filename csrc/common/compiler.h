/* Inlining and unrolling, as the compilers spell them. */
#ifndef DICOMCRYPT_COMPILER_H
#define DICOMCRYPT_COMPILER_H

#if defined(__clang__) || defined(__GNUC__)
#define DCX_INLINE static inline __attribute__((always_inline))
#define DCX_PREFETCH(address, write) /* the builtin takes nothing but literals */ \
    do {                                                                          \
        if (write)                                                                \
            __builtin_prefetch((const void *)(address), 1, 3);                    \
        else                                                                      \
            __builtin_prefetch((const void *)(address), 0, 3);                    \
    } while (0)
#endif

#if defined(__clang__)
#define DCX_UNROLL _Pragma("clang loop unroll(full)")
#define DCX_UNROLL13 _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define DCX_UNROLL _Pragma("GCC unroll 8")
#define DCX_UNROLL13 _Pragma("GCC unroll 13")
#else
#define DCX_INLINE static __forceinline
#define DCX_PREFETCH(address, write) ((void)(address))
#define DCX_UNROLL
#define DCX_UNROLL13
#endif

#endif
