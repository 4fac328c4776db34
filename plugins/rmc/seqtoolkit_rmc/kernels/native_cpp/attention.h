// Attention of one sample: its slots read of one another and of the input's rows, each head by itself.
#pragma once
#include "call.h"
#include "function.h"

namespace rmc {

// out[j] = x . row j, the rows `stride` apart
template <typename R>
void dots(const R* x, const R* rows, Size stride, Size count, Size width, R* out) {
  Size j = 0;
  for (; j + 4 <= count; j += 4) {
    const R *a = rows + j * stride, *b = a + stride, *c = b + stride, *d = c + stride;
    R sa = 0, sb = 0, sc = 0, sd = 0;
#pragma omp simd reduction(+ : sa, sb, sc, sd)
    for (Size i = 0; i < width; ++i) {
      sa += x[i] * a[i];
      sb += x[i] * b[i];
      sc += x[i] * c[i];
      sd += x[i] * d[i];
    }
    out[j] = sa, out[j + 1] = sb, out[j + 2] = sc, out[j + 3] = sd;
  }
  for (; j < count; ++j) {
    const R* a = rows + j * stride;
    R sum = 0;
#pragma omp simd reduction(+ : sum)
    for (Size i = 0; i < width; ++i) sum += x[i] * a[i];
    out[j] = sum;
  }
}

// y += the sum of weights[j * step] * row j, the rows `stride` apart
template <typename R>
void combine(const R* weights, Size step, const R* rows, Size stride, Size count, Size width, R* y) {
  Size j = 0;
  for (; j + 4 <= count; j += 4) {
    const R *a = rows + j * stride, *b = a + stride, *c = b + stride, *d = c + stride;
    const R *w = weights + j * step;
    const R wa = w[0], wb = w[step], wc = w[2 * step], wd = w[3 * step];
#pragma omp simd
    for (Size i = 0; i < width; ++i) y[i] += (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
  }
  for (; j < count; ++j) {
    const R* a = rows + j * stride;
    const R w = weights[j * step];
#pragma omp simd
    for (Size i = 0; i < width; ++i) y[i] += w * a[i];
  }
}

template <typename R>
void softmax(R* x, Size count) {
  R most = x[0];
  for (Size j = 1; j < count; ++j) most = x[j] > most ? x[j] : most;
  R sum = 0;
#pragma omp simd reduction(+ : sum)
  for (Size j = 0; j < count; ++j) sum += x[j] = exponential(x[j] - most);
  const R scale = 1 / sum;
#pragma omp simd
  for (Size j = 0; j < count; ++j) x[j] *= scale;
}

// read [N M] += A V, for A [heads N S] as it is; own [N P] and arriving [n P] hold queries, keys and values.
template <typename R>
void read(const Call<R>& call, const R* A, const R* own, const R* arriving, R* read) {
  const Size P = call.P(), M = call.M(), S = call.S(), width = 2 * call.K + call.V;
  for (Size head = 0; head < call.heads; ++head) {
    const Size at = head * width + 2 * call.K;
    for (Size i = 0; i < call.N; ++i, A += S) {
      R* y = read + i * M + head * call.V;
      combine(A, 1, own + at, P, call.N, call.V, y);
      combine(A + call.N, 1, arriving + at, P, call.n, call.V, y);
    }
  }
}

// A = softmax(Q K^T), eq. 1
template <typename R>
void attend(const Call<R>& call, const R* own, const R* arriving, R* A) {
  const Size P = call.P(), width = 2 * call.K + call.V;
  for (Size head = 0; head < call.heads; ++head) {
    for (Size i = 0; i < call.N; ++i, A += call.S()) {
      const R* query = own + i * P + head * width;
      const Size at = head * width + call.K;
      dots(query, own + at, P, call.N, call.K, A);
      dots(query, arriving + at, P, call.n, call.K, A + call.N);
      softmax(A, call.S());
    }
  }
}

template <typename R>
void clear(R* x, Size count) {
  for (Size i = 0; i < count; ++i) x[i] = 0;
}

// From d_read [N M] to the gradients of own [N P] and arriving [n P]; dA is room for N * S numbers.
template <typename R>
void attend_back(const Call<R>& call, const R* A, const R* own, const R* arriving, const R* d_read, R* dA, R* d_own,
                 R* d_arriving) {
  const Size P = call.P(), M = call.M(), N = call.N, S = call.S(), K = call.K, V = call.V, width = 2 * K + V;
  clear(d_own, N * P);
  clear(d_arriving, call.n * P);
  for (Size head = 0; head < call.heads; ++head, A += N * S) {
    const Size query = head * width, key = query + K, value = key + K;
    const R* d = d_read + head * V;
    for (Size i = 0; i < N; ++i) {
      R* row = dA + i * S;
      const R* weight = A + i * S;
      dots(d + i * M, own + value, P, N, V, row);
      dots(d + i * M, arriving + value, P, call.n, V, row + N);
      R mean = 0;
      for (Size j = 0; j < S; ++j) mean += weight[j] * row[j];
      for (Size j = 0; j < S; ++j) row[j] = weight[j] * (row[j] - mean);
      combine(row, 1, own + key, P, N, K, d_own + i * P + query);
      combine(row + N, 1, arriving + key, P, call.n, K, d_own + i * P + query);
    }
    for (Size j = 0; j < S; ++j) {
      R* to = j < N ? d_own + j * P : d_arriving + (j - N) * P;
      combine(dA + j, S, own + query, P, N, K, to + key);
      combine(A + j, S, d, M, N, V, to + value);
    }
  }
}

}  // namespace rmc
