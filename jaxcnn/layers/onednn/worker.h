/* The worker: the thread that computes. Callers post a job and wait for it, one at a time. XLA calls from any of its
   threads, and OpenMP would keep a team of its own, with a thread per core, for each of them. A job costs 6 us more than a
   direct call. */
#include <semaphore.h>
#include <signal.h>

#include "depthwise_gradient.h"
#include "layer_norm.h"
#include "norm.h"
#include "pool.h"

typedef struct {
  const Convolution* convolution;
  int64_t repetitions;    /* the number of convolutions, which are computed one after the other */
  char* const* data;      /* images, kernel and results of the first */
  const int64_t* strides; /* bytes from each to the next; 0 if all use the same */
  char* name;             /* if this is not 0, only the name of the implementation is written, of at most name_size bytes */
  size_t name_size;
  Norm* norm;             /* one of these may be set instead of a convolution */
  LayerNorm* layer_norm;
  Pool* pool;
  int status;
} Job;

static Job* job; /* protected by the lock, like the counters */
static sem_t job_posted, job_finished;
static int64_t calls[3], images[3], norms, pools;

/* Writes the name of the implementation, or "" if none exists. */
static int write_implementation(const Convolution* c, char* name, size_t size) {
  Handle description = 0, layouts[3] = {0};
  const char* found = "";
  if (uses_matrix_products(c))
    found = "sgemm:avx2";
  else if (uses_depthwise_sums(c))
    found = "depthwise:avx2";
  else if (!describe_convolution(&description, layouts, c))
    dnnl.primitive_desc_query(description, QUERY_IMPLEMENTATION, 0, &found);
  snprintf(name, size, "%s", found);
  for (int i = 0; i < 3; i++)
    if (layouts[i]) dnnl.memory_desc_destroy(layouts[i]);
  if (description) dnnl.primitive_desc_destroy(description);
  return 0;
}

typedef int KernelGradient(const Convolution*, const void* x, void* kernel, const void* y);

/* Does a job, on the worker's thread. Returns oneDNN's status. */
static int compute_job(const Job* j) {
  if (j->norm) return compute_norm(j->norm);
  if (j->layer_norm) return compute_layer_norm(j->layer_norm);
  if (j->pool) return compute_pool(j->pool);
  const Convolution* c = j->convolution;
  if (j->name) return write_implementation(c, j->name, j->name_size);
  if (!sizes_fit(c)) return 2; /* invalid arguments: oneDNN checks them itself, but the functions here do not */
  Plan* plan = 0;
  KernelGradient* own = uses_matrix_products(c)  ? kernel_gradient_by_products
                        : uses_depthwise_sums(c) ? depthwise_kernel_gradient
                                                 : 0;
  int status = own ? 0 : find_plan(&plan, c);
  for (int64_t i = 0; i < j->repetitions && !status; i++) {
    char *x = j->data[0] + i * j->strides[0], *kernel = j->data[1] + i * j->strides[1], *y = j->data[2] + i * j->strides[2];
    status = own ? own(c, x, kernel, y) : execute_plan(plan, x, kernel, y);
  }
  return status;
}

static void* work_on_jobs(void* nothing) {
  determine_team_size();
  sem_post(&job_finished);
  for (;;) {
    while (sem_wait(&job_posted)) continue;
    job->status = compute_job(job);
    sem_post(&job_finished);
  }
  return nothing;
}

/* Starts the worker. It blocks all signals, which the program's other threads handle. Returns 0 for success. */
static int start_worker(void) {
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failed = sem_init(&job_posted, 0, 0) || sem_init(&job_finished, 0, 0) || pthread_create(&thread, 0, work_on_jobs, 0);
  pthread_sigmask(SIG_SETMASK, &before, 0);
  if (failed || pthread_detach(thread)) return 1;
  while (sem_wait(&job_finished)) continue; /* until the size of the team is known */
  return 0;
}

/* Has the worker do a job and waits for it. Can be called by any thread. Returns oneDNN's status. */
static int run_job(Job* new_job) {
  const Convolution* c = new_job->convolution;
  pthread_mutex_lock(&lock);
  job = new_job;
  sem_post(&job_posted);
  while (sem_wait(&job_finished)) continue;
  if (new_job->norm || new_job->layer_norm)
    norms++;
  else if (new_job->pool)
    pools++;
  else if (!new_job->name)
    calls[c->kind]++, images[c->kind] += c->images * new_job->repetitions;
  pthread_mutex_unlock(&lock);
  return new_job->status;
}
