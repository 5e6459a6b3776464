// The scheduler: threads of a block take turns on one processor until all of them are done; blocks
// run one after another. Compiled without -fsanitize: its own bookkeeping must not be seen.
//
// A thread runs until it waits at a barrier or a warp's collective. One that never waits costs no
// switch: the fiber that it ran on goes straight on with the next thread. What is left is abandoned
// at the first error, which Python raises.
#include <algorithm>
#include <cstdarg>
#include <deque>
#include <random>
#include <vector>
#include "cuemu.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include "memory.h"
#include "watch.h"

namespace cuemu {

View* view;

// Numbered as in errors.py.
enum Error { NONE, DIVERGENCE, DEADLOCK, MASK, LIMIT, TIMEOUT, FAULT };
enum State : uint8_t { FRESH, READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct Thread {
  View view;
  Fiber* fiber;
  State state;
  unsigned lane, warp, mask;
  int line, source;
  Collective what;
  uint64_t in, out;
  unsigned synchronized;  // how often it passed __syncwarp
};

static std::vector<Thread> threads;
static std::vector<unsigned> order;
static Fiber fibers[MOST];
static unsigned n_fibers;
static std::vector<Fiber*> idle;
static char* stacks;  // of all modules, as only one of them runs
static Thread* current;
static Fiber* running;
static unsigned n_threads, n_started, n_done, n_arrived;
static int barrier_line, barrier_count;
static unsigned barrier_number;
static void (*call)(void*);
static void* context;
static volatile Error error;
static char message[768];
static uint64_t switches;

#if defined(CUEMU_TSAN)
// What barriers are known by to TSan: fresh addresses for each block, or one block's barrier would
// order it before the next block. One for each parity of a barrier: a thread that leaves barrier n
// must not acquire what others have released at n + 1 already, or a missing barrier would look
// like an order. Index 0 is the block's, warps follow.
struct Token { uint64_t parity[2]; };
static Token* tokens;
#endif

static void fail(Error kind, const char* format, ...) {
  if (error) return;
  char text[512], where[128] = "";
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  if (current) {
    const View& v = current->view;
    snprintf(where, sizeof where, "block (%u, %u, %u), thread (%u, %u, %u), ", v.block.x, v.block.y, v.block.z,
             v.thread.x, v.thread.y, v.thread.z);
  }
  error = kind;
  snprintf(message, sizeof message, "%s%s", where, text);
}

static void yield() {
  switches++;
  Fiber* mine = running;
  leave(mine);
}

// No string of the library, no memory: this is called from a signal's handler.
[[maybe_unused]] static bool interrupted(int signal, void* address, const char* stack_pointer) {
  bool in_kernel = running && stack_pointer > running->stack - GUARD && stack_pointer <= running->stack + STACK;
  if (!in_kernel && signal != SIGVTALRM) return false;
  if (signal == SIGVTALRM) fail(TIMEOUT, "the kernel did not end in time");
  else if (signal == SIGFPE) fail(FAULT, "an integer was divided by zero");
  else fail(FAULT, "memory at %p was touched, which is no array's", address);
  if (in_kernel) leave(running);  // for good; the scheduler itself looks at `error`
  return true;
}

}  // namespace cuemu
#if defined(CUEMU_COUNT)
#include "count.h"
#endif
namespace cuemu {

// ---- warps ----------------------------------------------------------------------------------------

static Thread* member(const Thread* t, unsigned lane) {
  unsigned index = t->warp * 32 + lane;
  return index < n_threads && threads[index].state != DONE ? &threads[index] : nullptr;
}

// If every living lane of the mask waits at the collective, give all of them their result.
static bool complete(const Thread* t) {
  unsigned mask = t->mask, ballot = 0, present = 0;
  int64_t sum = 0, least = 0, most = 0;
  for (unsigned l = 0; l < 32; l++) {
    if (!(mask >> l & 1)) continue;
    Thread* other = member(t, l);
    if (!other) continue;
    if (other->state != AT_COLLECTIVE || other->mask != mask) return false;
    if (other->what != t->what || other->line != t->line) {
      fail(DIVERGENCE, "line %d: waits for lanes that are at another warp operation, at line %d", t->line, other->line);
      return false;
    }
    int64_t value = (int64_t)other->in;
    if (value) ballot |= 1u << l;
    least = present ? std::min(least, value) : value;
    most = present ? std::max(most, value) : value;
    sum += value;
    present |= 1u << l;
  }
  for (unsigned l = 0; l < 32; l++) {
    if (!(present >> l & 1)) continue;
    Thread* other = member(t, l);
    switch (other->what) {
      case SHUFFLE:
        if (other->source < 0 || other->source > 31 || !(present >> other->source & 1)) {
          current = other;
          fail(MASK, "line %d: the shuffle reads lane %d, which %s", other->line, other->source,
               mask >> (other->source & 31) & 1 ? "has exited or does not exist" : "its mask does not name");
          return false;
        }
        other->out = threads[t->warp * 32 + (unsigned)other->source].in;
        break;
      case BALLOT: other->out = ballot; break;
      case ANY: other->out = ballot != 0; break;
      case ALL: other->out = ballot == present; break;
      case ADD: other->out = (uint64_t)sum; break;
      case MINIMUM: other->out = (uint64_t)least; break;
      case MAXIMUM: other->out = (uint64_t)most; break;
      case SYNC: other->out = 0;
    }
  }
  for (unsigned l = 0; l < 32; l++) if (present >> l & 1) member(t, l)->state = READY;
  return true;
}

uint64_t collective(Collective what, unsigned mask, uint64_t value, int source, int line) {
  Thread* me = current;
  if (!(mask >> me->lane & 1)) {
    fail(MASK, "line %d: lane %u calls a warp operation whose mask 0x%08x does not name it", line, me->lane, mask);
    yield();
  }
  me->what = what; me->mask = mask; me->in = value; me->source = source; me->line = line;
  me->state = AT_COLLECTIVE;
#if defined(CUEMU_TSAN)
  unsigned parity = me->synchronized & 1;
  if (what == SYNC) {
    me->synchronized++;
    __tsan_release(&tokens[1 + me->warp].parity[parity]);
  }
#endif
  if (!complete(me) || error) yield();
#if defined(CUEMU_TSAN)
  if (what == SYNC) __tsan_acquire(&tokens[1 + me->warp].parity[parity]);
#endif
  return me->out;
}

unsigned lane() { return current->lane; }
unsigned active_mask() {
  unsigned mask = 0;
  for (unsigned l = 0; l < 32; l++) if (member(current, l)) mask |= 1u << l;
  return mask;
}

// ---- blocks ---------------------------------------------------------------------------------------

void barrier(int line, int predicate, int* count) {
  Thread* me = current;
  if (n_arrived && barrier_line != line) {
    fail(DIVERGENCE, "line %d: divergent __syncthreads: %u threads wait at line %d", line, n_arrived, barrier_line);
    yield();
  }
  if (n_done) {
    fail(DIVERGENCE, "line %d: __syncthreads after %u of %u threads have exited", line, n_done, n_threads);
    yield();
  }
  me->line = barrier_line = line;
  me->state = AT_BARRIER;
  barrier_count += predicate;
  n_arrived++;
#if defined(CUEMU_TSAN)
  unsigned parity = barrier_number & 1;
  __tsan_release(&tokens[0].parity[parity]);
#endif
  if (n_arrived == n_threads) {
    for (Thread& t : threads) {
      t.state = READY;
      t.out = (uint64_t)barrier_count;
    }
    n_arrived = 0;
    barrier_count = 0;
    barrier_number++;
  }
  yield();  // even the last: who goes on first is for the order to say
#if defined(CUEMU_TSAN)
  __tsan_acquire(&tokens[0].parity[parity]);
#endif
  if (count) *count = (int)me->out;
}

void* shared_static(void* key, size_t bytes, size_t align, int line) {
  for (int i = 0; i < n_variables; i++) if (variables[i].key == key) return variables[i].memory;
  if (n_variables == 64) {
    fail(LIMIT, "line %d: more than 64 __shared__ variables", line);
    yield();
  }
  static_bytes += bytes;
  peak_bytes = std::max(peak_bytes, static_bytes + dynamic_bytes);
  if (static_bytes > STATIC_LIMIT) {
    fail(LIMIT, "line %d: %zu bytes of static __shared__ memory; a block has %zu", line, static_bytes, STATIC_LIMIT);
    yield();
  }
  if (static_bytes + dynamic_bytes > DYNAMIC_LIMIT) {
    fail(LIMIT, "line %d: %zu bytes of static and dynamic __shared__ memory; a block has %zu", line,
         static_bytes + dynamic_bytes, DYNAMIC_LIMIT);
    yield();
  }
  variables[n_variables] = {key, allocate(bytes, align), bytes};
  return variables[n_variables++].memory;
}
void* shared_dynamic(int line) {
  if (!dynamic) {
    fail(LIMIT, "line %d: extern __shared__ in a launch with shared_mem=0", line);
    yield();
  }
  return dynamic;
}

static void finished(Thread* t) {
  t->state = DONE;
  n_done++;
#if defined(CUEMU_TSAN)
  __tsan_release(&launches_);
#endif
  if (error) return;
  if (n_arrived) fail(DIVERGENCE, "the thread exits while %u others wait at __syncthreads, line %d", n_arrived, barrier_line);
  for (unsigned l = 0; l < 32; l++) {  // lanes that waited for this one
    Thread* other = member(t, l);
    if (other && other->state == AT_COLLECTIVE && other->mask >> t->lane & 1) complete(other);
  }
}

// ---- the scheduler --------------------------------------------------------------------------------

static void run_thread(unsigned index) {
  Thread* t = &threads[index];
  current = t;
  view = &t->view;
  t->fiber = running;
  t->state = READY;
  call(context);
  current = t;
  finished(t);
}

static void body() {
  entered();
  for (;;) {
    Fiber* mine = running;
    while (n_started < n_threads && !error) {
      run_thread(order[n_started++]);
      running = mine;
#if defined(CUEMU_TSAN)
      leave(mine);  // for good: the next thread is another to the sanitizer
#endif
    }
    idle.push_back(mine);
    leave(mine);
  }
}

static void resume(Thread* t) {
  current = t;
  view = &t->view;
  running = t->fiber;
  enter(running);
}

// A fiber that will go on with the next fresh thread.
static Fiber* next_fiber() {
  if (!idle.empty()) {
    Fiber* f = idle.back();
    idle.pop_back();
    return f;
  }
  Fiber* f = &fibers[n_fibers];
  f->stack = stack_of(stacks, n_fibers++);
  prepare(f, body);
#if defined(CUEMU_TSAN)
  const View& v = threads[order[n_started]].view;  // one fiber a thread, under the thread's name
  char name[96];
  snprintf(name, sizeof name, "block (%u,%u,%u) thread (%u,%u,%u)", v.block.x, v.block.y, v.block.z, v.thread.x,
           v.thread.y, v.thread.z);
  f->sanitizer = __tsan_create_fiber(0);
  __tsan_set_fiber_name(f->sanitizer, name);
#endif
  return f;
}

#if defined(CUEMU_TSAN)
// To the sanitizer every thread is one of its own, on a stack that nobody had: unmapping makes it
// forget the addresses. It gives a destroyed thread's number to the next one, which it then takes
// for the same: so threads are destroyed after the launch only, or when it has many; it knows 8128.
static std::deque<void*> ended;
static void forget(size_t keep) {
  for (; ended.size() > keep; ended.pop_front()) __tsan_destroy_fiber(ended.front());
}
static void renew_fibers() {
  for (unsigned i = 0; i < n_fibers; i++) ended.push_back(fibers[i].sanitizer);
  forget(6000);
  n_fibers = 0;
  munmap(stacks, (STACK + GUARD) * n_threads);
  stacks = new_stacks(n_threads);
}
#endif

static void run_block(const Launch& how, uint64_t index, std::mt19937& random) {
  clear_shared();
  if (how.dynamic_bytes) dynamic = allocate(how.dynamic_bytes, 16);
  peak_bytes = std::max(peak_bytes, (size_t)how.dynamic_bytes);
#if defined(CUEMU_TSAN)
  tokens = static_cast<Token*>(allocate(33 * sizeof(Token), 16));
#endif
  n_started = n_done = n_arrived = 0;
  barrier_count = 0;
  const unsigned *b = how.block, *g = how.grid;
  for (unsigned i = 0; i < n_threads; i++) {
    Thread& t = threads[i];
    t.view.thread = {i % b[0], i / b[0] % b[1], i / b[0] / b[1]};
    t.view.block = {(unsigned)(index % g[0]), (unsigned)(index / g[0] % g[1]), (unsigned)(index / g[0] / g[1])};
    t.state = FRESH;
    t.synchronized = 0;
    order[i] = how.order == 1 ? n_threads - 1 - i : i;
  }
  if (how.order == 2) std::shuffle(order.begin(), order.end(), random);
  while (n_started < n_threads && !error) {
    running = next_fiber();
    enter(running);
  }
  while (n_done < n_threads && !error) {
    bool moved = false;
    if (how.order == 2) std::shuffle(order.begin(), order.end(), random);
    for (unsigned i = 0; i < n_threads && !error; i++) {
      Thread& t = threads[order[i]];
      if (t.state != READY) continue;
      moved = true;
      resume(&t);
    }
    if (moved || error) continue;
    unsigned waiting = 0;
    for (Thread& t : threads) if (t.state == AT_COLLECTIVE && !waiting++) current = &t;
    fail(DEADLOCK, "line %d: %u threads wait at warp operations for lanes that never come; %u wait at __syncthreads, line %d",
         current->line, waiting, n_arrived, barrier_line);
  }
  current = nullptr;
#if defined(CUEMU_TSAN)
  renew_fibers();
#endif
}

int launch(void (*function)(void*), void* arguments, const Launch& how) {
  error = NONE;
  message[0] = 0;
  switches = 0;
  peak_bytes = 0;
#if defined(CUEMU_COUNT)
  bytes_read = bytes_written = n_atomics = 0;
#endif
  call = function;
  context = arguments;
  dynamic_bytes = how.dynamic_bytes;
  n_threads = how.block[0] * how.block[1] * how.block[2];
  threads.resize(n_threads);
  order.resize(n_threads);
  for (unsigned i = 0; i < n_threads; i++) {
    threads[i].lane = i & 31;
    threads[i].warp = i >> 5;
    threads[i].view.block_size = dim3(how.block[0], how.block[1], how.block[2]);
    threads[i].view.grid_size = dim3(how.grid[0], how.grid[1], how.grid[2]);
  }
  n_fibers = 0;
  idle.clear();
  stacks = how.stacks;
#if defined(CUEMU_TSAN)
  stacks = new_stacks(n_threads);
  scheduler.sanitizer = __tsan_get_current_fiber();
  if (!arena) arena = (char*)mmap(nullptr, ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#endif
  std::mt19937 random((unsigned)how.seed);
  uint64_t n_blocks = (uint64_t)how.grid[0] * how.grid[1] * how.grid[2];
  std::vector<uint64_t> blocks;
  if (how.order == 2) {
    blocks.resize(n_blocks);
    for (uint64_t i = 0; i < n_blocks; i++) blocks[i] = i;
    std::shuffle(blocks.begin(), blocks.end(), random);
  }
  watch(how.seconds);
  for (uint64_t i = 0; i < n_blocks && !error; i++)
    run_block(how, how.order == 2 ? blocks[i] : how.order == 1 ? n_blocks - 1 - i : i, random);
  unwatch();
  clear_shared();
  running = nullptr;
#if defined(CUEMU_TSAN)
  forget(0);
  munmap(stacks, (STACK + GUARD) * n_threads);
  __tsan_acquire(&launches_);
#endif
  return error;
}

}  // namespace cuemu

#define CUEMU_EXPORT extern "C" __attribute__((visibility("default")))
CUEMU_EXPORT const char* cuemu_message() { return cuemu::message; }
CUEMU_EXPORT char* cuemu_stacks() { return cuemu::new_stacks(cuemu::MOST); }
CUEMU_EXPORT void cuemu_statistics(uint64_t* out) {
  out[0] = cuemu::switches;
  out[1] = cuemu::peak_bytes;
#if defined(CUEMU_COUNT)
  out[2] = cuemu::bytes_read;
  out[3] = cuemu::bytes_written;
  out[4] = cuemu::n_atomics;
#endif
}
