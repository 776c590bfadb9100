/* The part of the public C API of oneDNN 3 that is used here, declared manually. Neither oneDNN's headers nor linking to it are
   needed: `load_onednn` looks up the functions in the shared library at the path that Python found. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef void* Handle; /* an engine, stream, memory descriptor, memory, primitive descriptor, primitive or set of attributes */
typedef const int64_t* Dims;
typedef struct { int arg; Handle memory; } Arg;
typedef struct { int major, minor, patch; } Version; /* the first fields of dnnl_version_t */

enum { SUCCESS = 0, CPU = 1, IN_ORDER = 1, BF16 = 2, F32 = 3, ANY_LAYOUT = 1, MAX_DIMS = 12 };
enum { AVX2 = 0x7 }; /* a value of dnnl_cpu_isa_t */
enum { FORWARD_TRAINING = 64, DIRECT = 1, USER_SCRATCHPAD = 1 };
enum { QUERY_IMPLEMENTATION = 8, QUERY_WEIGHTS = 131, QUERY_DIFF_WEIGHTS = 132, QUERY_SCRATCHPAD = 136 };
enum { SRC = 1, DST = 17, WEIGHTS = 33, SCRATCHPAD = 80, DIFF_SRC = 129, DIFF_DST = 145, DIFF_WEIGHTS = 161 };

#define ONEDNN_FUNCTIONS(F)                                                                                                \
  F(const Version*, version, (void))                                                                                       \
  F(int, get_effective_cpu_isa, (void))                                                                                    \
  F(int, set_primitive_cache_capacity, (int))                                                                              \
  F(int, engine_create, (Handle*, int kind, size_t index))                                                                 \
  F(int, stream_create, (Handle*, Handle engine, unsigned flags))                                                          \
  F(int, primitive_attr_create, (Handle*))                                                                                 \
  F(int, primitive_attr_set_scratchpad_mode, (Handle, int mode))                                                           \
  F(int, memory_desc_create_with_tag, (Handle*, int rank, Dims, int type, int tag))                                        \
  F(int, memory_desc_create_with_strides, (Handle*, int rank, Dims, int type, Dims strides))                               \
  F(int, memory_desc_destroy, (Handle))                                                                                    \
  F(int, memory_desc_equal, (Handle, Handle))                                                                              \
  F(size_t, memory_desc_get_size, (Handle))                                                                                \
  F(int, memory_create, (Handle*, Handle description, Handle engine, void* data))                                          \
  F(int, memory_set_data_handle, (Handle, void* data))                                                                     \
  F(int, memory_destroy, (Handle))                                                                                         \
  F(int, convolution_forward_primitive_desc_create,                                                                        \
    (Handle*, Handle engine, int propagation, int algorithm, Handle src, Handle weights, Handle bias, Handle dst,          \
     Dims strides, Dims dilations, Dims before, Dims after, Handle attributes))                                            \
  F(int, convolution_backward_data_primitive_desc_create,                                                                  \
    (Handle*, Handle engine, int algorithm, Handle diff_src, Handle weights, Handle diff_dst, Dims strides,                \
     Dims dilations, Dims before, Dims after, Handle forward, Handle attributes))                                          \
  F(int, convolution_backward_weights_primitive_desc_create,                                                               \
    (Handle*, Handle engine, int algorithm, Handle src, Handle diff_weights, Handle diff_bias, Handle diff_dst,            \
     Dims strides, Dims dilations, Dims before, Dims after, Handle forward, Handle attributes))                            \
  F(int, reorder_primitive_desc_create, (Handle*, Handle from, Handle engine, Handle to, Handle same_engine, Handle))      \
  F(int, primitive_desc_query, (Handle, int what, int index, void* result))                                                \
  F(Handle, primitive_desc_query_md, (Handle, int what, int index))                                                        \
  F(int, primitive_desc_destroy, (Handle))                                                                                 \
  F(int, primitive_create, (Handle*, Handle description))                                                                  \
  F(int, primitive_execute, (Handle, Handle stream, int count, const Arg*))                                                \
  F(int, primitive_destroy, (Handle))                                                                                      \
  F(int, sgemm, (char transpose_a, char transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float* a,         \
                 int64_t a_pitch, const float* b, int64_t b_pitch, float beta, float* c, int64_t c_pitch))

#define MEMBER(result, name, arguments) result(*name) arguments;
static struct { ONEDNN_FUNCTIONS(MEMBER) } dnnl;
static Handle engine, stream, attributes;

/* Work that `run_on_team` divides among threads: each part is `part(work, index, parts)` with an index below `parts`. */
typedef struct {
  void (*part)(void* work, int index, int parts);
  void* work;
  int parts;
} TeamWork;

/* The OpenMP functions of oneDNN, from the library that it is linked to (libgomp's manual: "The libgomp ABI"), so that the code
   here runs on the same threads. All are 0 if oneDNN uses another threading library. */
static struct {
  void (*parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
  int (*thread_num)(void), (*num_threads)(void), (*max_threads)(void);
  void (*set_dynamic)(int), (*set_num_threads)(int);
} omp;
static int team_size = 1; /* the number of threads that compute */

static int has_openmp(void) {
  return omp.parallel && omp.thread_num && omp.num_threads && omp.max_threads && omp.set_dynamic && omp.set_num_threads;
}

static void run_parts(void* team_work) {
  const TeamWork* t = team_work;
  for (int index = omp.thread_num(); index < t->parts; index += omp.num_threads()) t->part(t->work, index, t->parts);
}

/* Calls `part(work, index, team_size)` for each index below team_size, each on one thread, and returns after the last. */
static void run_on_team(void (*part)(void*, int, int), void* work) {
  TeamWork team_work = {part, work, team_size};
  omp.parallel(run_parts, &team_work, (unsigned)team_size, 0);
}

static void count_threads(void* result) {
  if (!omp.thread_num()) *(int*)result = omp.num_threads();
}

/* Determines how many threads compute. oneDNN relies on getting as many threads as omp_get_max_threads() returns: they wait
   for each other at barriers, forever if one is missing. That number ignores OMP_THREAD_LIMIT, OMP_MAX_ACTIVE_LEVELS and
   OMP_DYNAMIC, so the threads of a first team are counted. OpenMP stores these settings per calling thread, and only the
   worker calls this. */
static void determine_team_size(void) {
  if (!has_openmp()) return;
  omp.set_dynamic(0);
  omp.parallel(count_threads, &team_size, (unsigned)omp.max_threads(), 0);
  omp.set_num_threads(team_size);
}

static const char* status_name(int status) {
  static const char* const names[] = {"success", "out of memory", "invalid arguments", "unimplemented", "last implementation",
                                      "runtime error", "not required"};
  return status >= 0 && status < 7 ? names[status] : "unknown status";
}

/* Opens the library and creates the engine, stream and attributes. Returns 0, or 1 with the reason in `error`. */
static int load_onednn(const char* path, char* error, size_t size) {
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) return snprintf(error, size, "%s", dlerror()), 1;
#define FIND(result, name, arguments) \
  if (!(*(void**)&dnnl.name = dlsym(library, "dnnl_" #name))) return snprintf(error, size, "%s has no dnnl_" #name, path), 1;
  ONEDNN_FUNCTIONS(FIND)
  if (dnnl.version()->major != 3)
    return snprintf(error, size, "%s is version %d of oneDNN, not 3", path, dnnl.version()->major), 1;
  *(void**)&omp.parallel = dlsym(library, "GOMP_parallel");
  *(void**)&omp.thread_num = dlsym(library, "omp_get_thread_num");
  *(void**)&omp.num_threads = dlsym(library, "omp_get_num_threads");
  *(void**)&omp.max_threads = dlsym(library, "omp_get_max_threads");
  *(void**)&omp.set_dynamic = dlsym(library, "omp_set_dynamic");
  *(void**)&omp.set_num_threads = dlsym(library, "omp_set_num_threads");
  int status = dnnl.engine_create(&engine, CPU, 0);
  if (!status) status = dnnl.stream_create(&stream, engine, IN_ORDER);
  if (!status) status = dnnl.primitive_attr_create(&attributes);
  if (!status) status = dnnl.primitive_attr_set_scratchpad_mode(attributes, USER_SCRATCHPAD);
  if (!status) status = dnnl.set_primitive_cache_capacity(0); /* plans.h keeps primitives instead */
  if (status) return snprintf(error, size, "oneDNN cannot be initialized: %s", status_name(status)), 1;
  return 0;
}
