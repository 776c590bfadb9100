/* Layer normalization and its gradient, on oneDNN's threads, each in one pass over memory, where XLA has three to five.

   x is an array of `rows` by `channels`. All arrays are float32. y = (x - mean) / sqrt(var + epsilon) · scale + bias, with
   the mean and variance of each row. The gradient computes them from x again. */
#include <math.h>

#include "plans.h"

typedef struct {
  int64_t rows, channels;
  float epsilon;
  const float *x, *scale, *bias;
  float* y;
  const float* y_gradient; /* 0 in the forward pass; bias and y are ignored in the gradient */
  float *x_gradient, *scale_gradient, *bias_gradient;
  double* sums; /* per thread: of scale's gradient, then of bias's */
} LayerNorm;

enum { ROWS_PER_BLOCK = 64 }; /* sums over a block of so many rows are in float32, sums over blocks in float64 */

/* Returns the mean of a row, and 1 / sqrt(var + epsilon) in `inverse`. */
VECTORIZED static inline float row_moments(const LayerNorm* n, const float* restrict x, float* inverse) {
  float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < n->channels; c++) sum += x[c];
  const float mean = sum / (float)n->channels;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < n->channels; c++) squares += (x[c] - mean) * (x[c] - mean);
  *inverse = 1 / sqrtf(squares / (float)n->channels + n->epsilon);
  return mean;
}

VECTORIZED static void forward_rows(void* norm, int thread, int threads) {
  const LayerNorm* n = norm;
  const float *restrict scale = n->scale, *restrict bias = n->bias;
  for (int64_t r = n->rows * thread / threads; r < n->rows * (thread + 1) / threads; r++) {
    const float* restrict x = n->x + r * n->channels;
    float *restrict y = n->y + r * n->channels, inverse, mean = row_moments(n, x, &inverse);
    for (int64_t c = 0; c < n->channels; c++) y[c] = (x[c] - mean) * inverse * scale[c] + bias[c];
  }
}

/* Computes the gradient of Ba, Kiros, Hinton. With v = (x - mean) · inverse and g = y's gradient · scale, x's gradient is
   (g - mean of g - v · mean of g · v) · inverse. */
VECTORIZED static void backward_rows(void* norm, int thread, int threads) {
  const LayerNorm* n = norm;
  const int64_t channels = n->channels, from = n->rows * thread / threads, to = n->rows * (thread + 1) / threads;
  const float* restrict scale = n->scale;
  double *first = n->sums + 2 * thread * channels, *second = first + channels;
  float of_scale[channels], of_bias[channels];
  memset(of_scale, 0, sizeof of_scale), memset(of_bias, 0, sizeof of_bias);
  for (int64_t r = from; r < to; r++) {
    const float *restrict x = n->x + r * channels, *restrict gradient = n->y_gradient + r * channels;
    float *restrict result = n->x_gradient + r * channels, inverse, mean = row_moments(n, x, &inverse), sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
    for (int64_t c = 0; c < channels; c++) {
      const float v = (x[c] - mean) * inverse, g = gradient[c] * scale[c];
      sum += g, product += g * v;
      of_scale[c] += gradient[c] * v, of_bias[c] += gradient[c];
    }
    sum /= (float)channels, product /= (float)channels;
    for (int64_t c = 0; c < channels; c++)
      result[c] = (gradient[c] * scale[c] - sum - (x[c] - mean) * inverse * product) * inverse;
    if ((r + 1 - from) % ROWS_PER_BLOCK == 0 || r + 1 == to) {
      for (int64_t c = 0; c < channels; c++) first[c] += of_scale[c], second[c] += of_bias[c];
      memset(of_scale, 0, sizeof of_scale), memset(of_bias, 0, sizeof of_bias);
    }
  }
}

/* Computes the norm or its gradient. Returns oneDNN's status. The caller holds the lock. */
static int compute_layer_norm(LayerNorm* n) {
  if (!n->y_gradient) return run_on_team(forward_rows, n), 0;
  const size_t bytes = 2 * (size_t)(team_size * n->channels) * sizeof *n->sums;
  if (!(n->sums = (double*)reserve_workspace(bytes))) return 1;
  memset(n->sums, 0, bytes);
  run_on_team(backward_rows, n);
  for (int64_t c = 0; c < n->channels; c++) {
    double first = 0, second = 0;
    for (int t = 0; t < team_size; t++)
      first += n->sums[2 * t * n->channels + c], second += n->sums[(2 * t + 1) * n->channels + c];
    n->scale_gradient[c] = (float)first, n->bias_gradient[c] = (float)second;
  }
  return 0;
}
