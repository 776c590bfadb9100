/* Batch normalization with ReLU or ReLU6 and its gradient, on oneDNN's threads, in two passes over memory each. XLA's code
   makes more passes. oneDNN's own batch norm makes one more, and is slow if the number of channels is a power of two
   (docs/performance.md).

   x is an array of `rows` (images × positions) by `channels`. All arrays are float32. With v = (x - mean) · scale / sqrt(var + epsilon) +
   bias, y is min(max(v, low), high). The gradient computes v from x again, to find where y was clipped. */
#include <math.h>

#include "plans.h"

typedef struct {
  int64_t rows, channels;
  float epsilon, low, high;
  const float *x, *scale, *bias;
  float *mean, *var, *y; /* results of the forward pass; mean and var are operands of the gradient */
  const float *y_gradient, *mean_gradient, *var_gradient; /* 0 in the forward pass */
  float *x_gradient, *scale_gradient, *bias_gradient;
} Norm;

/* The state of a pass over memory. If there are few channels, a vector instruction processes several rows: `fold` rows are
   treated as one row of `lanes` = fold × channels, and `rows` is the number of these. */
typedef struct Pass {
  const Norm* n;
  int64_t fold, lanes, rows;
  float *mean, *factor, *bias, *slope, *constant; /* per lane: the coefficients of v, and those of x's gradient */
  double *first, *second;                         /* sums, per thread and lane */
  void (*function)(const struct Pass*, int64_t from, int64_t to, double* first, double* second);
} Pass;

/* Sums over a block that fits into a core's cache are in float32, sums over blocks in float64. */
enum { BLOCK_BYTES = 32768, MAX_CHANNELS = 16384 };

static int64_t block_rows(int64_t channels) {
  int64_t rows = BLOCK_BYTES / 4 / channels;
  return rows < 8 ? 8 : rows;
}

/* Computes the mean, and the sum of squared deviations from it, of each lane in rows `from` to `to` - 1: with two passes
   over each block, which are then combined (Chan, Golub, LeVeque 1979, equation 2.1). */
VECTORIZED static void moments(const Pass* p, int64_t from, int64_t to, double* mean, double* squares) {
  const int64_t lanes = p->lanes, step = block_rows(lanes);
  float sum[lanes], square[lanes];
  for (int64_t start = from; start < to; start += step) {
    const int64_t end = start + step < to ? start + step : to, rows_before = start - from, rows_in_block = end - start;
    memset(sum, 0, sizeof sum), memset(square, 0, sizeof square);
    for (int64_t r = start; r < end; r++) {
      const float* restrict x = p->n->x + r * lanes;
      for (int64_t c = 0; c < lanes; c++) sum[c] += x[c];
    }
    for (int64_t c = 0; c < lanes; c++) sum[c] /= (float)rows_in_block;
    for (int64_t r = start; r < end; r++) {
      const float* restrict x = p->n->x + r * lanes;
      for (int64_t c = 0; c < lanes; c++) square[c] += (x[c] - sum[c]) * (x[c] - sum[c]);
    }
    const double share = (double)rows_in_block / (double)(rows_before + rows_in_block), weight = share * (double)rows_before;
    for (int64_t c = 0; c < lanes; c++) {
      double delta = sum[c] - mean[c];
      mean[c] += share * delta;
      squares[c] += square[c] + weight * delta * delta;
    }
  }
}

/* Computes y. */
VECTORIZED static void normalize(const Pass* p, int64_t from, int64_t to, double* unused, double* unused_too) {
  const int64_t lanes = p->lanes;
  const float *restrict mean = p->mean, *restrict factor = p->factor, *restrict bias = p->bias;
  const float low = p->n->low, high = p->n->high;
  for (int64_t r = from; r < to; r++) {
    const float* restrict x = p->n->x + r * lanes;
    float* restrict y = p->n->y + r * lanes;
    for (int64_t c = 0; c < lanes; c++) {
      float v = (x[c] - mean[c]) * factor[c] + bias[c];
      v = v < low ? low : v; /* NaN remains */
      y[c] = v > high ? high : v;
    }
  }
  (void)unused, (void)unused_too;
}

/* Defines the gradient g of v, which is 0 where y was clipped. */
#define V_GRADIENT(c)                                           \
  const float centred = x[c] - mean[c];                         \
  const float v = centred * factor[c] + bias[c];                \
  const float g = (v > low) & (v < high) ? gradient[c] : 0.0f

/* Computes the sums of v's gradient, and of its product with x - mean. */
VECTORIZED static void gradient_sums(const Pass* p, int64_t from, int64_t to, double* first, double* second) {
  const int64_t lanes = p->lanes, step = block_rows(lanes);
  const float *restrict mean = p->mean, *restrict factor = p->factor, *restrict bias = p->bias;
  const float low = p->n->low, high = p->n->high;
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

/* Computes x's gradient. */
VECTORIZED static void x_gradient(const Pass* p, int64_t from, int64_t to, double* unused, double* unused_too) {
  const int64_t lanes = p->lanes;
  const float *restrict mean = p->mean, *restrict factor = p->factor, *restrict bias = p->bias;
  const float low = p->n->low, high = p->n->high;
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

/* Returns the first row of a thread. Each thread has a contiguous range of rows, of nearly the same length. */
static int64_t first_row(const Pass* p, int thread, int threads) { return p->rows * thread / threads; }

static void run_rows(void* pass, int thread, int threads) {
  const Pass* p = pass;
  p->function(p, first_row(p, thread, threads), first_row(p, thread + 1, threads), p->first + thread * p->lanes,
          p->second + thread * p->lanes);
}

static void run_pass(Pass* p, void (*function)(const Pass*, int64_t, int64_t, double*, double*)) {
  p->function = function;
  run_on_team(run_rows, p);
}

/* Sets the value of channel c in all of its lanes. */
static void set_lanes(const Pass* p, float* lanes, int64_t c, double value) {
  for (int64_t lane = c; lane < p->lanes; lane += p->n->channels) lanes[lane] = (float)value;
}

/* Sets the coefficients of v for channel c. */
static void set_lanes_of_channel(const Pass* p, int64_t c) {
  const Norm* n = p->n;
  set_lanes(p, p->mean, c, n->mean[c]);
  set_lanes(p, p->bias, c, n->bias[c]);
  set_lanes(p, p->factor, c, n->scale[c] / sqrtf(n->var[c] + n->epsilon));
}

static void forward_norm(Pass* p) {
  const Norm* n = p->n;
  run_pass(p, moments);
  for (int64_t c = 0; c < n->channels; c++) {
    double mean = 0, squares = 0, rows_before = 0;
    for (int64_t lane = c; lane < team_size * p->lanes; lane += n->channels) {
      const int thread = (int)(lane / p->lanes);
      const double rows = (double)(first_row(p, thread + 1, team_size) - first_row(p, thread, team_size));
      if (rows == 0) continue;
      const double share = rows / (rows_before + rows), delta = p->first[lane] - mean;
      mean += share * delta;
      squares += p->second[lane] + share * rows_before * delta * delta;
      rows_before += rows;
    }
    n->mean[c] = (float)mean, n->var[c] = (float)(squares / (double)n->rows);
    set_lanes_of_channel(p, c);
  }
  run_pass(p, normalize);
}

static void backward_norm(Pass* p) {
  const Norm* n = p->n;
  for (int64_t c = 0; c < n->channels; c++) set_lanes_of_channel(p, c);
  run_pass(p, gradient_sums);
  for (int64_t c = 0; c < n->channels; c++) {
    double sum = 0, product = 0;
    const double inverse = 1 / sqrt(n->var[c] + n->epsilon), factor = n->scale[c] * inverse, rows = (double)n->rows;
    for (int64_t lane = c; lane < team_size * p->lanes; lane += n->channels) sum += p->first[lane], product += p->second[lane];
    n->bias_gradient[c] = (float)sum, n->scale_gradient[c] = (float)(product * inverse);
    set_lanes(p, p->slope, c, (2 * n->var_gradient[c] - factor * inverse * inverse * product) / rows);
    set_lanes(p, p->constant, c, (n->mean_gradient[c] - factor * sum) / rows);
  }
  run_pass(p, x_gradient);
}

/* Computes the norm or its gradient. Returns oneDNN's status. The caller holds the lock. */
static int compute_norm(const Norm* n) {
  Pass p = {.n = n, .fold = 1};
  while (p.fold * n->channels <= 64 && n->rows % (2 * p.fold) == 0) p.fold *= 2;
  p.lanes = p.fold * n->channels, p.rows = n->rows / p.fold;
  double* sums = (double*)reserve_workspace((size_t)p.lanes * (2 * (size_t)team_size * sizeof(double) + 5 * sizeof(float)));
  if (!sums) return 1;
  memset(sums, 0, 2 * (size_t)(team_size * p.lanes) * sizeof *sums);
  p.first = sums, p.second = p.first + team_size * p.lanes;
  p.mean = (float*)(p.second + team_size * p.lanes);
  p.factor = p.mean + p.lanes, p.bias = p.factor + p.lanes, p.slope = p.bias + p.lanes, p.constant = p.slope + p.lanes;
  (n->y_gradient ? backward_norm : forward_norm)(&p);
  return 0;
}
