// The arithmetic that __half and __nv_bfloat16 share: computed in float and rounded once, which is
// what a device gives for + - * / and sqrt (float has more than twice the bits, plus two).
// TYPE needs a constructor from float and a conversion to float.
#define CUEMU_BINARY(TYPE, OPERATOR) \
  inline TYPE operator OPERATOR(TYPE a, TYPE b) { return TYPE((float)a OPERATOR (float)b); } \
  inline TYPE& operator OPERATOR##=(TYPE& a, TYPE b) { return a = a OPERATOR b; }
#define CUEMU_COMPARE(TYPE, OPERATOR) \
  inline bool operator OPERATOR(TYPE a, TYPE b) { return (float)a OPERATOR (float)b; }
#define CUEMU_NARROW(TYPE)                                                            \
  CUEMU_BINARY(TYPE, +) CUEMU_BINARY(TYPE, -) CUEMU_BINARY(TYPE, *) CUEMU_BINARY(TYPE, /) \
  CUEMU_COMPARE(TYPE, ==) CUEMU_COMPARE(TYPE, !=) CUEMU_COMPARE(TYPE, <)              \
  CUEMU_COMPARE(TYPE, >) CUEMU_COMPARE(TYPE, <=) CUEMU_COMPARE(TYPE, >=)              \
  inline TYPE operator-(TYPE a) { return TYPE(-(float)a); }                           \
  inline TYPE __hadd(TYPE a, TYPE b) { return a + b; }                                \
  inline TYPE __hsub(TYPE a, TYPE b) { return a - b; }                                \
  inline TYPE __hmul(TYPE a, TYPE b) { return a * b; }                                \
  inline TYPE __hdiv(TYPE a, TYPE b) { return a / b; }                                \
  inline TYPE __hneg(TYPE a) { return -a; }                                           \
  inline TYPE __habs(TYPE a) { return TYPE(fabsf((float)a)); }                        \
  inline TYPE __hfma(TYPE a, TYPE b, TYPE c) { return TYPE((float)fma((double)(float)a, (double)(float)b, (double)(float)c)); } \
  inline TYPE __hmax(TYPE a, TYPE b) { return TYPE(fmaxf((float)a, (float)b)); }      \
  inline TYPE __hmin(TYPE a, TYPE b) { return TYPE(fminf((float)a, (float)b)); }      \
  inline bool __heq(TYPE a, TYPE b) { return a == b; }                                \
  inline bool __hlt(TYPE a, TYPE b) { return a < b; }                                 \
  inline bool __hgt(TYPE a, TYPE b) { return a > b; }                                 \
  inline bool __hisnan(TYPE a) { return (float)a != (float)a; }                       \
  inline TYPE hexp(TYPE a) { return TYPE(expf((float)a)); }                           \
  inline TYPE hlog(TYPE a) { return TYPE(logf((float)a)); }                           \
  inline TYPE hsqrt(TYPE a) { return TYPE(sqrtf((float)a)); }                         \
  inline TYPE hrsqrt(TYPE a) { return TYPE(rsqrtf((float)a)); }                       \
  struct alignas(4) TYPE##2 { TYPE x, y; };                                           \
  inline TYPE##2 __hadd2(TYPE##2 a, TYPE##2 b) { return {a.x + b.x, a.y + b.y}; }     \
  inline TYPE##2 __hsub2(TYPE##2 a, TYPE##2 b) { return {a.x - b.x, a.y - b.y}; }     \
  inline TYPE##2 __hmul2(TYPE##2 a, TYPE##2 b) { return {a.x * b.x, a.y * b.y}; }     \
  inline TYPE##2 __hfma2(TYPE##2 a, TYPE##2 b, TYPE##2 c) {                           \
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                            \
  }
