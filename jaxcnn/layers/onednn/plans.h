/* Plans: a convolution of given shapes, made ready by oneDNN (which compiles machine code for it), and kept for the next call.

   Images are NHWC and kernels HWIO in memory. oneDNN works fastest on a blocked layout of the kernel that it chooses itself, so
   a plan reorders the kernel before it, or the kernel's gradient after it. */
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
} Convolution;

typedef struct {
  Convolution key;
  int64_t last_use;
  Handle primitive, reorder;         /* reorder: 0 where the kernel's layout is oneDNN's already */
  Handle memory[3], packed, scratch; /* of both operands and the result; of the kernel in oneDNN's layout */
  size_t packed_bytes, scratch_bytes;
} Plan;

/* All plans, and all that is done with them, are under this lock. oneDNN computes on all cores at once, so two convolutions side
   by side would gain nothing; and one scratch buffer serves all plans, as large as the one that needs most. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { MAX_PLANS = 1024 };
static uint64_t hashes[MAX_PLANS]; /* apart from the plans, so that looking for one reads 8 KB and not all plans */
static Plan* plans[MAX_PLANS];
static int64_t capacity = MAX_PLANS, count, made, forgotten, now;
static char* workspace;
static size_t workspace_bytes;

/* Of functions that the compiler makes for AVX2, without which nothing here is called. */
#define VECTORIZED __attribute__((target("avx2,fma")))

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
  int64_t *first = dims + !grouped, *step = strides + !grouped; /* the axis of groups is there only where there are several */
  int rank = 4 + (int)grouped, type = (int)c->type;
  return any_layout ? dnnl.memory_desc_create_with_tag(description, rank, first, type, ANY_LAYOUT)
                    : dnnl.memory_desc_create_with_strides(description, rank, first, type, step);
}

/* Whether the results have the size that images, kernel, stride, padding and dilation give. */
static int sizes_fit(const Convolution* c) {
  const int64_t rows = c->height + c->top + c->bottom - (c->kernel_height - 1) * c->dilation[0] - 1;
  const int64_t columns = c->width + c->left + c->right - (c->kernel_width - 1) * c->dilation[1] - 1;
  return rows >= 0 && columns >= 0 && c->output_height == rows / c->stride[0] + 1 && c->output_width == columns / c->stride[1] + 1;
}

/* oneDNN's description of how it would compute the convolution; in `layouts` those of images, kernel and results. */
static int describe(Handle* description, Handle layouts[3], const Convolution* c) {
  const int64_t dilation[] = {c->dilation[0] - 1, c->dilation[1] - 1}, before[] = {c->top, c->left}, after[] = {c->bottom, c->right};
  Handle x = 0, kernel = 0, y = 0, any = 0, forward = 0;
  int status = describe_images(&x, c, c->height, c->width, c->inputs);
  TRY(describe_images(&y, c, c->output_height, c->output_width, c->outputs));
  TRY(describe_kernel(&kernel, c, 0));
  TRY(describe_kernel(&any, c, 1));
  TRY(dnnl.convolution_forward_primitive_desc_create(&forward, engine, FORWARD_TRAINING, DIRECT, x, any, 0, y, c->stride, dilation,
                                                     before, after, attributes));
  if (c->kind == FORWARD)
    *description = forward;
  else if (c->kind == INPUT_GRADIENT)
    TRY(dnnl.convolution_backward_data_primitive_desc_create(description, engine, DIRECT, x, any, y, c->stride, dilation, before,
                                                             after, forward, attributes));
  else
    TRY(dnnl.convolution_backward_weights_primitive_desc_create(description, engine, DIRECT, x, any, 0, y, c->stride, dilation,
                                                                before, after, forward, attributes));
  if (forward && c->kind != FORWARD) dnnl.primitive_desc_destroy(forward);
  if (any) dnnl.memory_desc_destroy(any);
  layouts[0] = x, layouts[1] = kernel, layouts[2] = y;
  return status;
}

static void destroy(Plan* p) {
  Handle memories[] = {p->memory[0], p->memory[1], p->memory[2], p->packed, p->scratch};
  for (int i = 0; i < 5; i++)
    if (memories[i]) dnnl.memory_destroy(memories[i]);
  if (p->primitive) dnnl.primitive_destroy(p->primitive);
  if (p->reorder) dnnl.primitive_destroy(p->reorder);
  free(p);
}

static int make_reorder(Plan* p, Handle kernel, Handle packed) {
  Handle description = 0;
  int out = p->key.kind == KERNEL_GRADIENT;
  int status = dnnl.reorder_primitive_desc_create(&description, out ? packed : kernel, engine, out ? kernel : packed, engine, 0);
  TRY(dnnl.primitive_create(&p->reorder, description));
  TRY(dnnl.memory_create(&p->packed, packed, engine, 0));
  if (description) dnnl.primitive_desc_destroy(description);
  p->packed_bytes = dnnl.memory_desc_get_size(packed);
  return status;
}

static int make(Plan** made_plan, const Convolution* c) {
  Plan* p = calloc(1, sizeof *p);
  if (!p) return 1;
  p->key = *c;
  Handle description = 0, layouts[3] = {0};
  int status = describe(&description, layouts, c);
  TRY(dnnl.primitive_create(&p->primitive, description));
  for (int i = 0; i < 3; i++) TRY(dnnl.memory_create(&p->memory[i], layouts[i], engine, 0));
  if (!status) {
    Handle packed = dnnl.primitive_desc_query_md(description, c->kind == KERNEL_GRADIENT ? QUERY_DIFF_WEIGHTS : QUERY_WEIGHTS, 0);
    Handle scratch = dnnl.primitive_desc_query_md(description, QUERY_SCRATCHPAD, 0);
    if (!dnnl.memory_desc_equal(packed, layouts[1])) status = make_reorder(p, layouts[1], packed);
    TRY(dnnl.memory_create(&p->scratch, scratch, engine, 0));
    p->scratch_bytes = dnnl.memory_desc_get_size(scratch);
  }
  for (int i = 0; i < 3; i++)
    if (layouts[i]) dnnl.memory_desc_destroy(layouts[i]);
  if (description) dnnl.primitive_desc_destroy(description);
  if (status) return destroy(p), status;
  *made_plan = p;
  return 0;
}

/* The plan for `c`; the one that went unused for longest makes room for a new one. */
static int find(Plan** found, const Convolution* c) {
  uint64_t hash = 14695981039346656037u;
  for (size_t i = 0; i < sizeof *c / 8; i++) hash = (hash ^ (uint64_t)((const int64_t*)c)[i]) * 1099511628211u;
  int64_t place = 0;
  for (; place < count; place++)
    if (hashes[place] == hash && !memcmp(&plans[place]->key, c, sizeof *c)) break;
  if (place == count) {
    Plan* p;
    int status = make(&p, c);
    if (status) return status;
    made++;
    if (count < capacity) {
      count++;
    } else {
      place = 0;
      for (int64_t i = 1; i < count; i++)
        if (plans[i]->last_use < plans[place]->last_use) place = i;
      destroy(plans[place]);
      forgotten++;
    }
    hashes[place] = hash, plans[place] = p;
  }
  *found = plans[place];
  (*found)->last_use = ++now;
  return 0;
}

/* The workspace, of at least so many bytes. */
static char* work(size_t bytes) {
  if (bytes > workspace_bytes) {
    free(workspace);
    bytes = (bytes + 4095) & ~(size_t)4095;
    workspace = aligned_alloc(4096, bytes);
    workspace_bytes = workspace ? bytes : 0;
  }
  return workspace;
}

/* Computes; images, kernel and results are where the convolution's kind reads or writes them. The lock is held. */
static int execute(const Plan* p, void* x, void* kernel, void* y) {
  int64_t kind = p->key.kind;
  size_t packed_at = (p->scratch_bytes + 63) & ~(size_t)63;
  char* space = work(packed_at + p->packed_bytes + 64);
  if (!space) return 1;
  int status = dnnl.memory_set_data_handle(p->memory[0], x);
  TRY(dnnl.memory_set_data_handle(p->memory[1], kernel));
  TRY(dnnl.memory_set_data_handle(p->memory[2], y));
  TRY(dnnl.memory_set_data_handle(p->scratch, space));
  if (p->packed) TRY(dnnl.memory_set_data_handle(p->packed, space + packed_at));
  static const int roles[3][3] = {{SRC, WEIGHTS, DST}, {DIFF_SRC, WEIGHTS, DIFF_DST}, {SRC, DIFF_WEIGHTS, DIFF_DST}};
  Handle used = p->packed ? p->packed : p->memory[1];
  Arg arguments[] = {{roles[kind][0], p->memory[0]}, {roles[kind][1], used}, {roles[kind][2], p->memory[2]}, {SCRATCHPAD, p->scratch}};
  Arg pack[] = {{SRC, p->memory[1]}, {DST, p->packed}}, unpack[] = {{SRC, p->packed}, {DST, p->memory[1]}};
  if (p->reorder && kind != KERNEL_GRADIENT) TRY(dnnl.primitive_execute(p->reorder, stream, 2, pack));
  TRY(dnnl.primitive_execute(p->primitive, stream, 4, arguments));
  if (p->reorder && kind == KERNEL_GRADIENT) TRY(dnnl.primitive_execute(p->reorder, stream, 2, unpack));
  return status;
}
