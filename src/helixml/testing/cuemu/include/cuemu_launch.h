// How a kernel is called from Python: by pointers to its arguments, with its parameters as text.
#pragma once

namespace cuemu {

// filled by kernels.py, field by field
struct Launch {
  unsigned grid[3], block[3];
  uint64_t dynamic_bytes, seed;
  int order;
  double seconds;
  char* stacks;
};
int launch(void (*call)(void*), void* context, const Launch& how);

// the NumPy name of a scalar type; "struct" for all that is none
template <class T> inline const char* kind() {
  if (std::is_same<T, bool>::value) return "bool";
  if (std::is_same<T, __half>::value) return "half";
  if (std::is_same<T, __nv_bfloat16>::value) return "bfloat";
  if (std::is_floating_point<T>::value) return "float";
  if (std::is_integral<T>::value) return std::is_signed<T>::value ? "int" : "uint";
  return "struct";
}

// one line a parameter: pointer or value, const or not, kind, bytes, alignment
template <class P> inline void describe(char*& out) {
  using Q = std::remove_cv_t<std::remove_reference_t<P>>;
  if constexpr (std::is_pointer<Q>::value) {
    using E = std::remove_pointer_t<Q>;
    const char* access = std::is_const<E>::value ? "const" : "-";
    if constexpr (std::is_void<E>::value) out += sprintf(out, "pointer %s void 0 1\n", access);
    else out += sprintf(out, "pointer %s %s %zu %zu\n", access, kind<std::remove_cv_t<E>>(), sizeof(E), alignof(E));
  } else {
    out += sprintf(out, "value const %s %zu %zu\n", kind<Q>(), sizeof(Q), alignof(Q));
  }
}
template <class... P> void signature(void (*)(P...), char* out) { *out = 0; (describe<P>(out), ...); }

template <class... P> struct Call {
  void (*kernel)(P...);
  void** arguments;
  // not instrumented: reading the arguments is no kernel's doing
  template <size_t... I> __attribute__((no_sanitize("thread"))) void run(std::index_sequence<I...>) {
    kernel(*reinterpret_cast<std::remove_reference_t<P>*>(arguments[I])...);
  }
  __attribute__((no_sanitize("thread"))) static void start(void* self) { static_cast<Call*>(self)->run(std::index_sequence_for<P...>{}); }
};
template <class... P> int run(void (*kernel)(P...), void** arguments, const Launch& how) {
  Call<P...> call{kernel, arguments};
  return launch(&Call<P...>::start, &call, how);
}

}  // namespace cuemu
