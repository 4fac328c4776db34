// Layer norm of one row, forward and backward.
#pragma once
#include <cmath>

#include "call.h"

namespace rmc {

template <typename R>
struct Stats {
  R mean, scale;  // scale is 1 / sqrt(variance + eps)
};

// Mean first, then squared deviations from it.
template <typename R>
Stats<R> measure(const R* x, Size width) {
  R sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Size i = 0; i < width; ++i) sum += x[i];
  const R mean = sum / R(width);
  R squares = 0;
#pragma omp simd reduction(+ : squares)
  for (Size i = 0; i < width; ++i) squares += (x[i] - mean) * (x[i] - mean);
  return {mean, 1 / std::sqrt(squares / R(width) + R(1e-5))};
}

// y = gain * (x - mean) * scale + shift; y may be x.
template <typename R>
void normalize(const R* x, Stats<R> stats, const R* gain, const R* shift, R* y, Size width) {
#pragma omp simd
  for (Size i = 0; i < width; ++i) y[i] = (x[i] - stats.mean) * stats.scale * gain[i] + shift[i];
}

// dy becomes dx; adds to the gradients of gain and shift, and dx itself to `d_bias`.
template <typename R>
void normalize_back(const R* x, Stats<R> stats, const R* gain, R* d, R* d_gain, R* d_shift, R* d_bias, Size width) {
  R along = 0, sum = 0;
#pragma omp simd reduction(+ : along, sum)
  for (Size i = 0; i < width; ++i) {
    const R unit = (x[i] - stats.mean) * stats.scale;
    const R given = d[i] * gain[i];
    d_gain[i] += d[i] * unit;
    d_shift[i] += d[i];
    along += given * unit;
    sum += given;
  }
  along /= R(width);
  sum /= R(width);
#pragma omp simd
  for (Size i = 0; i < width; ++i) {
    const R unit = (x[i] - stats.mean) * stats.scale;
    d[i] = (d[i] * gain[i] - sum - unit * along) * stats.scale;
    d_bias[i] += d[i];
  }
}

}  // namespace rmc
