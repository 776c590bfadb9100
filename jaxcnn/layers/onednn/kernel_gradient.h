/* The gradient of the kernel by matrix products: up to 5 times as fast as oneDNN's own program for AVX2 (docs/performance.md).

   Each pixel of the kernel is the product of what it saw, (positions × inputs) transposed, and of the results' gradient
   (positions × outputs). What it saw lies one behind the other in memory, but for the ends of lines: so images are copied with
   their padding, and gradients with as many zeros at the end of a line, where what is seen does not count. Of a stride s there
   are s × s such copies, each of every s-th line and column. A kernel of one pixel is one product, of images as they lie. */
#include "plans.h"

typedef struct {
  const Convolution* c;
  const float *x, *y;
  int64_t lines, blocks, pitch, down, right; /* lines of results in a block; blocks of an image; positions of a line; its overhang */
  int64_t copy, gradients, products, each;   /* floats: of one of the copies, of both others, and of all that a thread has */
  float* space;
  int status;
} Products;

enum { POSITIONS = 1024, MOST_BYTES = 1 << 27 };

static Products products(const Convolution* c, int threads) {
  Products p = {.c = c};
  p.down = (c->kernel_height - 1) / c->stride[0], p.right = (c->kernel_width - 1) / c->stride[1];
  p.pitch = c->output_width + p.right;
  p.lines = (POSITIONS + p.pitch - 1) / p.pitch;
  if (p.lines > c->output_height) p.lines = c->output_height;
  p.blocks = (c->output_height + p.lines - 1) / p.lines;
  p.copy = (p.lines + p.down) * p.pitch * c->inputs;
  p.gradients = p.lines * p.pitch * c->outputs;
  p.products = c->kernel_height * c->kernel_width * c->inputs * c->outputs;
  p.each = (p.copy * c->stride[0] * c->stride[1] + p.gradients + p.products + 15) & ~(int64_t)15;
  p.each = p.each * threads * 4 <= MOST_BYTES ? p.each : 0;
  return p;
}

static int single(const Convolution* c) {
  return c->kernel_height == 1 && c->kernel_width == 1 && c->height == c->output_height && c->width == c->output_width &&
         !(c->top | c->left);
}

/* Whether it is faster so, as measured on two cores. */
static int by_products(const Convolution* c) {
  if (c->kind != KERNEL_GRADIENT || c->type != F32 || c->groups > 1 || dnnl.get_effective_cpu_isa() != AVX2) return 0;
  if (single(c)) return c->inputs >= 16 && c->outputs >= 16;
  const int64_t channels = c->inputs * c->outputs;
  return has_threads() && c->dilation[0] == 1 && c->dilation[1] == 1 && c->inputs >= 64 && c->outputs >= 32 &&
         c->output_width >= 14 && channels <= (c->output_width < 28 ? 1 << 15 : 1 << 16) && products(c, omp.most()).each;
}

/* The lines of x that a block sees, of one of the strides' copies. */
static void copy_seen(const Products* p, float* to, int64_t image, int64_t first, int64_t row, int64_t column) {
  const Convolution* c = p->c;
  const size_t pixel = (size_t)c->inputs * sizeof(float);
  for (int64_t i = 0; i < p->lines + p->down; i++, to += p->pitch * c->inputs) {
    const int64_t line = (first + i) * c->stride[0] + row - c->top;
    memset(to, 0, (size_t)p->pitch * pixel);
    if (line < 0 || line >= c->height) continue;
    const float* from = p->x + (image * c->height + line) * c->width * c->inputs;
    if (c->stride[1] == 1) {
      const int64_t seen = c->width < p->pitch - c->left ? c->width : p->pitch - c->left;
      memcpy(to + c->left * c->inputs, from, (size_t)seen * pixel);
    } else {
      for (int64_t j = 0; j < p->pitch; j++) {
        const int64_t at = j * c->stride[1] + column - c->left;
        if (at >= 0 && at < c->width) memcpy(to + j * c->inputs, from + at * c->inputs, pixel);
      }
    }
  }
}

static void multiply(void* given, int thread, int threads) {
  Products* p = given;
  const Convolution* c = p->c;
  const int64_t units = c->images * p->blocks, down = c->stride[0], across = c->stride[1];
  float *copies = p->space + thread * p->each, *gradients = copies + p->copy * down * across, *sums = p->space + (thread + 1) * p->each - p->products;
  memset(sums, 0, (size_t)p->products * sizeof *sums);
  for (int64_t unit = units * thread / threads; unit < units * (thread + 1) / threads; unit++) {
    const int64_t image = unit / p->blocks, first = unit % p->blocks * p->lines;
    const int64_t lines = first + p->lines < c->output_height ? p->lines : c->output_height - first;
    for (int64_t s = 0; s < down * across; s++) copy_seen(p, copies + s * p->copy, image, first, s / across, s % across);
    const float* y = p->y + (image * c->output_height + first) * c->output_width * c->outputs;
    for (int64_t i = 0; i < lines; i++) {
      float* line = gradients + i * p->pitch * c->outputs;
      memcpy(line, y + i * c->output_width * c->outputs, (size_t)(c->output_width * c->outputs) * sizeof *y);
      memset(line + c->output_width * c->outputs, 0, (size_t)(p->right * c->outputs) * sizeof *y);
    }
    for (int64_t a = 0; a < c->kernel_height; a++)
      for (int64_t b = 0; b < c->kernel_width; b++) {
        const float* seen = copies + (a % down * across + b % across) * p->copy + (a / down * p->pitch + b / across) * c->inputs;
        int status = dnnl.sgemm('T', 'N', c->inputs, c->outputs, lines * p->pitch - p->right, 1, seen, c->inputs, gradients,
                                c->outputs, 1, sums + (a * c->kernel_width + b) * c->inputs * c->outputs, c->outputs);
        if (status) p->status = status;
      }
  }
}

/* What each thread has summed up, at the end of all that it has. */
typedef struct {
  const float* space;
  float* kernel;
  int64_t each, sums;
} Parts;

static void add_up(void* given, int thread, int threads) {
  const Parts* p = given;
  for (int64_t i = p->sums * thread / threads; i < p->sums * (thread + 1) / threads; i++) {
    float sum = 0;
    for (int t = 0; t < threads; t++) sum += p->space[(t + 1) * p->each - p->sums + i];
    p->kernel[i] = sum;
  }
}

/* Computes; returns oneDNN's status. The lock is held. */
static int multiply_out(const Convolution* c, const void* x, void* kernel, const void* y) {
  if (single(c))
    return dnnl.sgemm('T', 'N', c->inputs, c->outputs, c->images * c->height * c->width, 1, x, c->inputs, y, c->outputs, 0, kernel,
                      c->outputs);
  const int threads = omp.most();
  Products p = products(c, threads);
  p.x = x, p.y = y;
  p.space = (float*)work((size_t)(p.each * threads) * sizeof(float));
  if (!p.space) return 1;
  in_shares(multiply, &p, threads);
  in_shares(add_up, &(Parts){p.space, kernel, p.each, p.products}, threads);
  return p.status;
}
