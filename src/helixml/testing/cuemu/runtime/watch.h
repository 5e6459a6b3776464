// What interrupts a kernel: the time limit, and faults (wild pointers, division by zero, a stack
// that ran over). The handler never returns to the kernel: it goes to the scheduler for good.
#pragma once
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include "fibers.h"

namespace cuemu {

// Tells whether it was the kernel's matter; does not return if the kernel itself was interrupted.
static bool interrupted(int signal, void* address, const char* stack_pointer);  // runtime.cc

#if defined(CUEMU_TSAN) || defined(CUEMU_ASAN)
// The sanitizers handle faults themselves, and the process that started this one the time.
static void watch(double) {}
static void unwatch() {}
#else
static const int WATCHED[] = {SIGVTALRM, SIGSEGV, SIGBUS, SIGFPE};
static struct sigaction earlier[4];
static struct itimerval earlier_timer;
static stack_t earlier_stack;
static pthread_t launcher;

static const char* stack_pointer(void* context) {
  const mcontext_t& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return reinterpret_cast<const char*>(machine.gregs[REG_RSP]);
#else
  return reinterpret_cast<const char*>(machine.sp);
#endif
}

static void handler(int signal, siginfo_t* info, void* context) {
  bool ours = pthread_equal(pthread_self(), launcher);
  if (!ours && signal == SIGVTALRM) pthread_kill(launcher, signal);
  else if (!ours || !interrupted(signal, info->si_addr, stack_pointer(context)))
    // somebody else's fault: it happens again, and whoever was there before sees it
    for (int i = 0; i < 4; i++) if (WATCHED[i] == signal) sigaction(signal, &earlier[i], nullptr);
}

// The time is the processor's: a busy machine must not make a kernel fail.
static void watch(double seconds) {
  static char stack[32 << 10];
  launcher = pthread_self();
  stack_t own = {};
  own.ss_sp = stack;
  own.ss_size = sizeof stack;
  sigaltstack(&own, &earlier_stack);
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int i = 0; i < 4; i++) sigaction(WATCHED[i], &action, &earlier[i]);
  struct itimerval timer = {};
  timer.it_value.tv_sec = (long)seconds;
  timer.it_value.tv_usec = (long)((seconds - (double)timer.it_value.tv_sec) * 1e6) + 1;
  setitimer(ITIMER_VIRTUAL, &timer, &earlier_timer);
}
static void unwatch() {
  setitimer(ITIMER_VIRTUAL, &earlier_timer, nullptr);
  for (int i = 0; i < 4; i++) sigaction(WATCHED[i], &earlier[i], nullptr);
  sigaltstack(&earlier_stack, nullptr);
}
#endif

}  // namespace cuemu
