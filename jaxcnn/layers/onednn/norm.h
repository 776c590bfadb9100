/* Batch normalisation and what follows it, ReLU or ReLU6, on the threads that oneDNN has: three passes over memory forward and
   back where XLA takes twelve. oneDNN's own reads once more, and is slow where channels are a power of two (docs/performance.md).

   x is `rows` (images × positions) of `channels`, float32, and so is everything else. y = min(max(v, low), high) of
   v = (x - mean) · scale / sqrt(var + epsilon) + bias. The backward pass takes x again, and finds v and where it was cut off. */
#include <math.h>

#include "plans.h"

typedef struct {
  int64_t rows, channels;
  float epsilon, low, high;
  const float *x, *scale, *bias;
  float *mean, *var, *y;                                  /* the results forward; mean and var are operands backward */
  const float *y_gradient, *mean_gradient, *var_gradient; /* 0 forward */
  float *x_gradient, *scale_gradient, *bias_gradient;
} Norm;

/* What a pass over memory works with. Few channels are several rows side by side: `lanes` are fold × channels. */
typedef struct Pass {
  const Norm* n;
  int64_t fold, lanes, rows;
  float *mean, *factor, *bias, *slope, *constant; /* of each lane: how v, and x's gradient, depend on x */
  double *first, *second;                         /* sums, of each thread and lane */
  void (*part)(const struct Pass*, int64_t from, int64_t to, double* first, double* second);
} Pass;

/* Sums are of blocks that a core's cache holds, in float32, and the blocks' in float64. */
enum { BLOCK_BYTES = 32768, MAX_CHANNELS = 16384 };

static int64_t block_rows(int64_t channels) {
  int64_t rows = BLOCK_BYTES / 4 / channels;
  return rows < 8 ? 8 : rows;
}

/* Mean and sum of squares around it: a block's by two passes, then joined (Chan, Golub, LeVeque 1979, equation 2.1). */
VECTORIZED static void moments(const Pass* p, int64_t from, int64_t to, double* mean, double* squares) {
  const int64_t lanes = p->lanes, step = block_rows(lanes);
  float sum[lanes], square[lanes];
  for (int64_t start = from; start < to; start += step) {
    const int64_t end = start + step < to ? start + step : to, seen = start - from, new = end - start;
    memset(sum, 0, sizeof sum), memset(square, 0, sizeof square);
    for (int64_t r = start; r < end; r++) {
      const float* restrict x = p->n->x + r * lanes;
      for (int64_t c = 0; c < lanes; c++) sum[c] += x[c];
    }
    for (int64_t c = 0; c < lanes; c++) sum[c] /= (float)new;
    for (int64_t r = start; r < end; r++) {
      const float* restrict x = p->n->x + r * lanes;
      for (int64_t c = 0; c < lanes; c++) square[c] += (x[c] - sum[c]) * (x[c] - sum[c]);
    }
    const double share = (double)new / (double)(seen + new), weight = share * (double)seen;
    for (int64_t c = 0; c < lanes; c++) {
      double further = sum[c] - mean[c];
      mean[c] += share * further;
      squares[c] += square[c] + weight * further * further;
    }
  }
}

/* y. */
VECTORIZED static void normalize(const Pass* p, int64_t from, int64_t to, double* unused, double* unused_too) {
  const int64_t lanes = p->lanes;
  const float *restrict mean = p->mean, *restrict factor = p->factor, *restrict bias = p->bias, low = p->n->low, high = p->n->high;
  for (int64_t r = from; r < to; r++) {
    const float* restrict x = p->n->x + r * lanes;
    float* restrict y = p->n->y + r * lanes;
    for (int64_t c = 0; c < lanes; c++) {
      float v = (x[c] - mean[c]) * factor[c] + bias[c];
      v = v < low ? low : v; /* NaN stays */
      y[c] = v > high ? high : v;
    }
  }
  (void)unused, (void)unused_too;
}

/* The gradient of v, 0 where it was cut off. */
#define V_GRADIENT(c)                                           \
  const float centred = x[c] - mean[c];                         \
  const float v = centred * factor[c] + bias[c];                \
  const float g = (v > low) & (v < high) ? gradient[c] : 0.0f

/* Sums of v's gradient, and of it times x - mean. */
VECTORIZED static void gradient_sums(const Pass* p, int64_t from, int64_t to, double* first, double* second) {
  const int64_t lanes = p->lanes, step = block_rows(lanes);
  const float *restrict mean = p->mean, *restrict factor = p->factor, *restrict bias = p->bias, low = p->n->low, high = p->n->high;
  float sum[lanes], product[lanes];
  for (int64_t start = from; start < to; start += step) {
    const int64_t end = start + step < to ? start + step : to;
    memset(sum, 0, sizeof sum), memset(product, 0, sizeof product);
    for (int64_t r = start; r < end; r++) {
      const float *restrict x = p->n->x + r * lanes, *restrict gradient = p->n->y_gradient + r * lanes;
      for (int64_t c = 0; c < lanes; c++) {
        V_GRADIENT(c);
        sum[c] += g, product[c] += g * centred;
      }
    }
    for (int64_t c = 0; c < lanes; c++) first[c] += sum[c], second[c] += product[c];
  }
}

/* x's gradient. */
VECTORIZED static void x_gradient(const Pass* p, int64_t from, int64_t to, double* unused, double* unused_too) {
  const int64_t lanes = p->lanes;
  const float *restrict mean = p->mean, *restrict factor = p->factor, *restrict bias = p->bias, low = p->n->low, high = p->n->high;
  const float *restrict slope = p->slope, *restrict constant = p->constant;
  for (int64_t r = from; r < to; r++) {
    const float *restrict x = p->n->x + r * lanes, *restrict gradient = p->n->y_gradient + r * lanes;
    float* restrict result = p->n->x_gradient + r * lanes;
    for (int64_t c = 0; c < lanes; c++) {
      V_GRADIENT(c);
      result[c] = g * factor[c] + centred * slope[c] + constant[c];
    }
  }
  (void)unused, (void)unused_too;
}

/* The first row of a thread: they have neighbours, as nearly as many each. */
static int64_t first_row(const Pass* p, int thread, int threads) { return p->rows * thread / threads; }

static void share_of_pass(void* pass, int thread, int threads) {
  const Pass* p = pass;
  p->part(p, first_row(p, thread, threads), first_row(p, thread + 1, threads), p->first + thread * p->lanes,
          p->second + thread * p->lanes);
}

static void run_pass(Pass* p, void (*part)(const Pass*, int64_t, int64_t, double*, double*)) {
  p->part = part;
  in_shares(share_of_pass, p);
}

/* Channel c's value, for each of its lanes. */
static void set(const Pass* p, float* lanes, int64_t c, double value) {
  for (int64_t lane = c; lane < p->lanes; lane += p->n->channels) lanes[lane] = (float)value;
}

/* What v of channel c depends on. */
static void set_v(const Pass* p, int64_t c) {
  const Norm* n = p->n;
  set(p, p->mean, c, n->mean[c]);
  set(p, p->bias, c, n->bias[c]);
  set(p, p->factor, c, n->scale[c] / sqrtf(n->var[c] + n->epsilon));
}

static void forward_norm(Pass* p) {
  const Norm* n = p->n;
  run_pass(p, moments);
  for (int64_t c = 0; c < n->channels; c++) {
    double mean = 0, squares = 0, seen = 0;
    for (int64_t lane = c; lane < team * p->lanes; lane += n->channels) {
      const int thread = (int)(lane / p->lanes);
      const double rows = (double)(first_row(p, thread + 1, team) - first_row(p, thread, team));
      if (rows == 0) continue;
      const double share = rows / (seen + rows), further = p->first[lane] - mean;
      mean += share * further;
      squares += p->second[lane] + share * seen * further * further;
      seen += rows;
    }
    n->mean[c] = (float)mean, n->var[c] = (float)(squares / (double)n->rows);
    set_v(p, c);
  }
  run_pass(p, normalize);
}

static void backward_norm(Pass* p) {
  const Norm* n = p->n;
  for (int64_t c = 0; c < n->channels; c++) set_v(p, c);
  run_pass(p, gradient_sums);
  for (int64_t c = 0; c < n->channels; c++) {
    double sum = 0, product = 0, inverse = 1 / sqrt(n->var[c] + n->epsilon), factor = n->scale[c] * inverse, rows = (double)n->rows;
    for (int64_t lane = c; lane < team * p->lanes; lane += n->channels) sum += p->first[lane], product += p->second[lane];
    n->bias_gradient[c] = (float)sum, n->scale_gradient[c] = (float)(product * inverse);
    set(p, p->slope, c, (2 * n->var_gradient[c] - factor * inverse * inverse * product) / rows);
    set(p, p->constant, c, (n->mean_gradient[c] - factor * sum) / rows);
  }
  run_pass(p, x_gradient);
}

/* Computes; returns a oneDNN status. The lock is held. */
static int compute_norm(const Norm* n) {
  Pass p = {.n = n, .fold = 1};
  while (p.fold * n->channels <= 64 && n->rows % (2 * p.fold) == 0) p.fold *= 2;
  p.lanes = p.fold * n->channels, p.rows = n->rows / p.fold;
  double* sums = (double*)work((size_t)p.lanes * (2 * (size_t)team * sizeof(double) + 5 * sizeof(float)));
  if (!sums) return 1;
  memset(sums, 0, 2 * (size_t)(team * p.lanes) * sizeof *sums);
  p.first = sums, p.second = p.first + team * p.lanes;
  p.mean = (float*)(p.second + team * p.lanes);
  p.factor = p.mean + p.lanes, p.bias = p.factor + p.lanes, p.slope = p.bias + p.lanes, p.constant = p.slope + p.lanes;
  (n->y_gradient ? backward_norm : forward_norm)(&p);
  return 0;
}
