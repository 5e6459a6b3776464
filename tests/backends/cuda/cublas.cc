// The three functions of cuBLAS that the backend calls, as its documentation describes them, for
// memory of the host: matrices count columns first, and sums are formed in double precision.
#include <complex>
#include <cstdint>
#include <cstring>

using Number = std::complex<double>;

static Number get(const char* at, int type, long long i) {
  switch (type) {
    case 0: return ((const float*)at)[i];
    case 1: return ((const double*)at)[i];
    case 2: return (double)((const _Float16*)at)[i];
    case 4: return ((const std::complex<float>*)at)[i];
    case 5: return ((const std::complex<double>*)at)[i];
  }
  std::uint32_t bits = (std::uint32_t)((const std::uint16_t*)at)[i] << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

static void put(char* at, int type, long long i, Number x) {
  switch (type) {
    case 0: ((float*)at)[i] = x.real(); return;
    case 1: ((double*)at)[i] = x.real(); return;
    case 2: ((_Float16*)at)[i] = x.real(); return;
    case 4: ((std::complex<float>*)at)[i] = std::complex<float>(x); return;
    case 5: ((std::complex<double>*)at)[i] = x; return;
  }
  float rounded = x.real();
  std::uint32_t bits;
  std::memcpy(&bits, &rounded, 4);
  bits += 0x7fff + (bits >> 16 & 1);
  ((std::uint16_t*)at)[i] = bits >> 16;
}

extern "C" int cublasSetStream_v2(void* handle, void*) { return handle ? 0 : 1; }
extern "C" int cublasSetWorkspace_v2(void* handle, void* at, std::size_t) {
  return handle && at ? 0 : 7;
}

extern "C" int cublasGemmStridedBatchedEx(
    void* handle, int turn_a, int turn_b, int m, int n, int k, const void* alpha, const char* a,
    int type_a, int lda, long long step_a, const char* b, int type_b, int ldb, long long step_b,
    const void* beta, char* c, int type_c, int ldc, long long step_c, int count, int compute,
    int algorithm) {
  if (!handle) return 1;
  if (lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) || ldc < m) return 7;
  int wide = type_c == 1 || type_c == 5;
  if (compute != (wide ? 70 : 68) || algorithm != -1 || type_a != type_c || type_b != type_c)
    return 15;
  int scalar = type_c == 2 || type_c == 14 ? 0 : type_c;
  Number one = get((const char*)alpha, scalar, 0), zero = get((const char*)beta, scalar, 0);
  if (zero != 0.0) return 7;
  for (long long s = 0; s < count; s++)
    for (long long j = 0; j < n; j++)
      for (long long i = 0; i < m; i++) {
        Number sum = 0;
        for (long long l = 0; l < k; l++)
          sum += get(a, type_a, s * step_a + (turn_a ? i * lda + l : l * lda + i)) *
                 get(b, type_b, s * step_b + (turn_b ? l * ldb + j : j * ldb + l));
        put(c, type_c, s * step_c + j * ldc + i, one * sum);
      }
  return 0;
}
