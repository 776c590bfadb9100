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
  char* name;           /* or only the name of its implementation is wanted, of at most name_size bytes */
  size_t name_size;
  Norm* norm;           /* or one of these, where there is no convolution */
  LayerNorm* layer_norm;
  Pool* pool;
  int status;
} Job;

static Job* job; /* under the lock, like the counters */
static sem_t given, done;
static int64_t calls[3], images[3], norms, pools;

static int write_name(const Convolution* c, char* name, size_t size) {
  Handle description = 0, layouts[3] = {0};
  const char* found = "";
  if (by_products(c))
    found = "sgemm:avx2";
  else if (by_depthwise(c))
    found = "depthwise:avx2";
  else if (!describe(&description, layouts, c))
    dnnl.primitive_desc_query(description, QUERY_IMPLEMENTATION, 0, &found);
  snprintf(name, size, "%s", found);
  for (int i = 0; i < 3; i++)
    if (layouts[i]) dnnl.memory_desc_destroy(layouts[i]);
  if (description) dnnl.primitive_desc_destroy(description);
  return 0;
}

static int compute(const Job* j) {
  if (j->norm) return compute_norm(j->norm);
  if (j->layer_norm) return compute_layer_norm(j->layer_norm);
  if (j->pool) return compute_pool(j->pool);
  const Convolution* c = j->convolution;
  if (j->name) return write_name(c, j->name, j->name_size);
  if (!sizes_fit(c)) return 2; /* invalid arguments, whichever program would compute it */
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
  settle_team();
  sem_post(&done);
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
  if (failed || pthread_detach(thread)) return 1;
  while (sem_wait(&done)) continue; /* until the team is settled */
  return 0;
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
  else if (!own->name)
    calls[own->convolution->kind]++, images[own->convolution->kind] += own->convolution->images * own->times;
  pthread_mutex_unlock(&lock);
  return own->status;
}
