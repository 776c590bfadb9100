/* Plans: a plan is a convolution of given shapes that oneDNN has prepared, by compiling machine code for it. It is kept for the
   next calls, because preparing it is slow.

   Images are NHWC and kernels HWIO in memory. oneDNN is fastest with a blocked layout of the kernel, which it chooses itself.
   Therefore a plan reorders the kernel before the convolution, or the kernel's gradient after it. */
#pragma once
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api.h"

enum { FORWARD, INPUT_GRADIENT, KERNEL_GRADIENT };

typedef struct {
  int64_t kind, type; /* F32 or BF16 */
  int64_t images, height, width, inputs, outputs, kernel_height, kernel_width, output_height, output_width;
  int64_t stride[2], top, bottom, left, right, dilation[2], groups;
} Convolution; /* library.py creates it as an array of int64 */

typedef struct {
  Convolution key;
  int64_t last_use;
  Handle primitive, reorder; /* reorder is 0 if HWIO is the layout that oneDNN chose */
  Handle memory[3], packed;  /* of images, kernel and results; of the kernel in oneDNN's layout */
  Handle scratch;            /* oneDNN's temporary memory */
  size_t packed_bytes, scratch_bytes;
} Plan;

/* Protects the plans, the workspace, the current job and the counters. oneDNN computes on all cores at once, so two
   convolutions at the same time would not be faster, and all plans can share one workspace, as large as the largest that one
   needs. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { MAX_PLANS = 1024 };
static uint64_t hashes[MAX_PLANS]; /* separate from the plans, so that a search reads 8 KB instead of all plans */
static Plan* plans[MAX_PLANS];
static int64_t plan_capacity = MAX_PLANS, plan_count, plans_created, plans_evicted, use_counter;
static char* workspace;
static size_t workspace_bytes;

/* Lets the compiler use AVX2 in a function. Nothing here is called on a CPU without it. */
#define VECTORIZED __attribute__((target("avx2,fma")))

/* Calls a function of oneDNN unless an earlier one failed. */
#define TRY(call) (status = status ? status : (call))

static int describe_images(Handle* description, const Convolution* c, int64_t height, int64_t width, int64_t channels) {
  int64_t dims[MAX_DIMS] = {c->images, channels, height, width};
  int64_t strides[MAX_DIMS] = {height * width * channels, 1, width * channels, channels};
  return dnnl.memory_desc_create_with_strides(description, 4, dims, (int)c->type, strides);
}

static int describe_kernel(Handle* description, const Convolution* c, int any_layout) {
  int64_t g = c->groups, i = c->inputs / g, o = c->outputs / g, grouped = g > 1;
  int64_t dims[MAX_DIMS] = {g, o, i, c->kernel_height, c->kernel_width};
  int64_t strides[MAX_DIMS] = {o, 1, c->outputs, c->kernel_width * i * c->outputs, i * c->outputs};
  int64_t *first = dims + !grouped, *step = strides + !grouped; /* the axis of groups exists only if there are several */
  int rank = 4 + (int)grouped, type = (int)c->type;
  return any_layout ? dnnl.memory_desc_create_with_tag(description, rank, first, type, ANY_LAYOUT)
                    : dnnl.memory_desc_create_with_strides(description, rank, first, type, step);
}

/* Returns whether the size of the results follows from images, kernel, strides, padding and dilations. */
static int sizes_fit(const Convolution* c) {
  const int64_t rows = c->height + c->top + c->bottom - (c->kernel_height - 1) * c->dilation[0] - 1;
  const int64_t columns = c->width + c->left + c->right - (c->kernel_width - 1) * c->dilation[1] - 1;
  return rows >= 0 && columns >= 0 && c->output_height == rows / c->stride[0] + 1 &&
         c->output_width == columns / c->stride[1] + 1;
}

/* Creates oneDNN's description of how it computes the convolution, and those of the layouts of images, kernel and results. The
   caller destroys all four. Returns oneDNN's status. */
static int describe_convolution(Handle* description, Handle layouts[3], const Convolution* c) {
  const int64_t dilation[] = {c->dilation[0] - 1, c->dilation[1] - 1}; /* oneDNN counts the pixels that are skipped */
  const int64_t before[] = {c->top, c->left}, after[] = {c->bottom, c->right};
  Handle x = 0, kernel = 0, y = 0, any = 0, forward = 0;
  int status = describe_images(&x, c, c->height, c->width, c->inputs);
  TRY(describe_images(&y, c, c->output_height, c->output_width, c->outputs));
  TRY(describe_kernel(&kernel, c, 0));
  TRY(describe_kernel(&any, c, 1));
  TRY(dnnl.convolution_forward_primitive_desc_create(&forward, engine, FORWARD_TRAINING, DIRECT, x, any, 0, y, c->stride,
                                                     dilation, before, after, attributes));
  if (c->kind == FORWARD)
    *description = forward;
  else if (c->kind == INPUT_GRADIENT)
    TRY(dnnl.convolution_backward_data_primitive_desc_create(description, engine, DIRECT, x, any, y, c->stride, dilation,
                                                             before, after, forward, attributes));
  else
    TRY(dnnl.convolution_backward_weights_primitive_desc_create(description, engine, DIRECT, x, any, 0, y, c->stride, dilation,
                                                                before, after, forward, attributes));
  if (forward && c->kind != FORWARD) dnnl.primitive_desc_destroy(forward);
  if (any) dnnl.memory_desc_destroy(any);
  layouts[0] = x, layouts[1] = kernel, layouts[2] = y;
  return status;
}

static void destroy_plan(Plan* p) {
  Handle memories[] = {p->memory[0], p->memory[1], p->memory[2], p->packed, p->scratch};
  for (int i = 0; i < 5; i++)
    if (memories[i]) dnnl.memory_destroy(memories[i]);
  if (p->primitive) dnnl.primitive_destroy(p->primitive);
  if (p->reorder) dnnl.primitive_destroy(p->reorder);
  free(p);
}

/* Prepares the conversion of the kernel, or of its gradient, between HWIO and oneDNN's layout. Returns oneDNN's status. */
static int create_reorder(Plan* p, Handle kernel, Handle packed) {
  Handle description = 0;
  int out = p->key.kind == KERNEL_GRADIENT;
  Handle from = out ? packed : kernel, to = out ? kernel : packed;
  int status = dnnl.reorder_primitive_desc_create(&description, from, engine, to, engine, 0);
  TRY(dnnl.primitive_create(&p->reorder, description));
  TRY(dnnl.memory_create(&p->packed, packed, engine, 0));
  if (description) dnnl.primitive_desc_destroy(description);
  p->packed_bytes = dnnl.memory_desc_get_size(packed);
  return status;
}

/* Has oneDNN prepare the convolution. Returns its status; the plan is valid if this is 0. */
static int create_plan(Plan** created, const Convolution* c) {
  Plan* p = calloc(1, sizeof *p);
  if (!p) return 1;
  p->key = *c;
  Handle description = 0, layouts[3] = {0};
  int status = describe_convolution(&description, layouts, c);
  TRY(dnnl.primitive_create(&p->primitive, description));
  for (int i = 0; i < 3; i++) TRY(dnnl.memory_create(&p->memory[i], layouts[i], engine, 0));
  if (!status) {
    const int query = c->kind == KERNEL_GRADIENT ? QUERY_DIFF_WEIGHTS : QUERY_WEIGHTS;
    Handle packed = dnnl.primitive_desc_query_md(description, query, 0);
    Handle scratch = dnnl.primitive_desc_query_md(description, QUERY_SCRATCHPAD, 0);
    if (!dnnl.memory_desc_equal(packed, layouts[1])) status = create_reorder(p, layouts[1], packed);
    TRY(dnnl.memory_create(&p->scratch, scratch, engine, 0));
    p->scratch_bytes = dnnl.memory_desc_get_size(scratch);
  }
  for (int i = 0; i < 3; i++)
    if (layouts[i]) dnnl.memory_desc_destroy(layouts[i]);
  if (description) dnnl.primitive_desc_destroy(description);
  if (status) return destroy_plan(p), status;
  *created = p;
  return 0;
}

/* Finds the plan for `c` or creates it, in place of the least recently used one if there are `plan_capacity` plans. */
static int find_plan(Plan** found, const Convolution* c) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < sizeof *c / 8; i++) hash = (hash ^ (uint64_t)((const int64_t*)c)[i]) * 1099511628211u;
  int64_t place = 0;
  for (; place < plan_count; place++)
    if (hashes[place] == hash && !memcmp(&plans[place]->key, c, sizeof *c)) break;
  if (place == plan_count) {
    Plan* p;
    int status = create_plan(&p, c);
    if (status) return status;
    plans_created++;
    if (plan_count < plan_capacity) {
      plan_count++;
    } else {
      place = 0;
      for (int64_t i = 1; i < plan_count; i++)
        if (plans[i]->last_use < plans[place]->last_use) place = i;
      destroy_plan(plans[place]);
      plans_evicted++;
    }
    hashes[place] = hash, plans[place] = p;
  }
  *found = plans[place];
  (*found)->last_use = ++use_counter;
  return 0;
}

/* Returns the workspace, which loses its content if it has to grow to this size; 0 if there is not enough memory. */
static char* reserve_workspace(size_t bytes) {
  if (bytes > workspace_bytes) {
    free(workspace);
    bytes = (bytes + 4095) & ~(size_t)4095;
    workspace = aligned_alloc(4096, bytes);
    workspace_bytes = workspace ? bytes : 0;
  }
  return workspace;
}

/* Computes one convolution or gradient. Each of images `x`, `kernel` and results `y` is read or written, depending on the kind.
   Returns oneDNN's status. The caller holds the lock. */
static int execute_plan(const Plan* p, void* x, void* kernel, void* y) {
  int64_t kind = p->key.kind;
  size_t packed_at = (p->scratch_bytes + 63) & ~(size_t)63;
  char* space = reserve_workspace(packed_at + p->packed_bytes + 64);
  if (!space) return 1;
  int status = dnnl.memory_set_data_handle(p->memory[0], x);
  TRY(dnnl.memory_set_data_handle(p->memory[1], kernel));
  TRY(dnnl.memory_set_data_handle(p->memory[2], y));
  TRY(dnnl.memory_set_data_handle(p->scratch, space));
  if (p->packed) TRY(dnnl.memory_set_data_handle(p->packed, space + packed_at));
  static const int roles[3][3] = {{SRC, WEIGHTS, DST}, {DIFF_SRC, WEIGHTS, DIFF_DST}, {SRC, DIFF_WEIGHTS, DIFF_DST}};
  Handle used = p->packed ? p->packed : p->memory[1];
  Arg arguments[] = {
      {roles[kind][0], p->memory[0]}, {roles[kind][1], used}, {roles[kind][2], p->memory[2]}, {SCRATCHPAD, p->scratch}};
  Arg pack[] = {{SRC, p->memory[1]}, {DST, p->packed}}, unpack[] = {{SRC, p->packed}, {DST, p->memory[1]}};
  if (p->reorder && kind != KERNEL_GRADIENT) TRY(dnnl.primitive_execute(p->reorder, stream, 2, pack));
  TRY(dnnl.primitive_execute(p->primitive, stream, 4, arguments));
  if (p->reorder && kind == KERNEL_GRADIENT) TRY(dnnl.primitive_execute(p->reorder, stream, 2, unpack));
  return status;
}
