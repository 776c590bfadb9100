/* The thread that computes. Callers hand it their work and wait, one at a time: XLA calls from any thread of its own, and
   OpenMP would keep as many threads as there are cores for each of those. It costs 6 us a call. */
#include <semaphore.h>
#include <signal.h>

#include "depthwise_gradient.h"
#include "layer_norm.h"
#include "norm.h"
#include "pool.h"

typedef struct {
  const Convolution* convolution;
  int64_t times;        /* as many, one after the other */
  char* const* data;    /* the first's images, kernel, results */
  const int64_t* steps; /* bytes from each to the next */
  Norm* norm;           /* or one of these, where there is no convolution */
  LayerNorm* layer_norm;
  Pool* pool;
  int status;
} Job;

static Job* job; /* under the lock, like the counters */
static sem_t given, done;
static int64_t calls[3], images[3], norms, pools;

static int compute(const Job* j) {
  if (j->norm) return compute_norm(j->norm);
  if (j->layer_norm) return compute_layer_norm(j->layer_norm);
  if (j->pool) return compute_pool(j->pool);
  const Convolution* c = j->convolution;
  Plan* plan = 0;
  int (*own)(const Convolution*, const void*, void*, const void*) = by_products(c) ? multiply_out : by_depthwise(c) ? sum_depthwise : 0;
  int status = own ? 0 : find(&plan, c);
  for (int64_t i = 0; i < j->times && !status; i++) {
    char *x = j->data[0] + i * j->steps[0], *kernel = j->data[1] + i * j->steps[1], *y = j->data[2] + i * j->steps[2];
    status = own ? own(c, x, kernel, y) : execute(plan, x, kernel, y);
  }
  return status;
}

static void* work_on_jobs(void* nothing) {
  for (;;) {
    while (sem_wait(&given)) continue;
    job->status = compute(job);
    sem_post(&done);
  }
  return nothing;
}

/* Starts the thread; signals go to the program's other threads. */
static int start_worker(void) {
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = sem_init(&given, 0, 0) || sem_init(&done, 0, 0) || pthread_create(&thread, 0, work_on_jobs, 0);
  pthread_sigmask(SIG_SETMASK, &before, 0);
  return failed || pthread_detach(thread);
}

/* Has a job done; returns oneDNN's status. */
static int run(Job* own) {
  pthread_mutex_lock(&lock);
  job = own;
  sem_post(&given);
  while (sem_wait(&done)) continue;
  if (own->norm || own->layer_norm)
    norms++;
  else if (own->pool)
    pools++;
  else
    calls[own->convolution->kind]++, images[own->convolution->kind] += own->convolution->images * own->times;
  pthread_mutex_unlock(&lock);
  return own->status;
}
