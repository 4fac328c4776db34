// All steps of one tile, forward.
#pragma once
#include "attention.h"
#include "blas.h"
#include "gate.h"
#include "tile.h"

namespace rmc {

// Adds the bias, then ReLU, in which NaN stays NaN.
template <typename R>
void rectify(R* rows, const R* bias, Size count, Size width) {
  for (Size row = 0; row < count; ++row, rows += width) {
#pragma omp simd
    for (Size i = 0; i < width; ++i) {
      const R x = rows[i] + bias[i];
      rows[i] = x < 0 ? 0 : x;
    }
  }
}

// [Q K V] = LN(M W^{qkv} + b), with the stats of the norm.
template <typename R>
void make_heads(const Call<R>& call, Size rows, R* qkv, Stats<R>* stats, R* heads) {
  const Size P = call.P();
  for (Size row = 0; row < rows; ++row, qkv += P, heads += P) {
#pragma omp simd
    for (Size i = 0; i < P; ++i) qkv[i] += call.qkv_bias[i];
    stats[row] = measure(qkv, P);
    normalize(qkv, stats[row], call.qkv_gain, call.qkv_shift, heads, P);
  }
}

// The same of x', whose W^{qkv} x' + b is given.
template <typename R>
void arrive(const Call<R>& call, const Tile& tile, Size t, Stats<R>* stats, R* arrived) {
  const Size P = call.P();
  const R* x = call.arriving + (t * call.B + tile.begin) * call.n * P;
  for (Size row = 0; row < tile.samples * call.n; ++row, x += P, arrived += P) {
    stats[row] = measure(x, P);
    normalize(x, stats[row], call.qkv_gain, call.qkv_shift, arrived, P);
  }
}

// R = LN(M + A), where `reading` [rows M] has M to begin with; `sum` gets R and the last bias of g_psi, to be added to.
template <typename R>
void attend_tile(const Call<R>& call, const Tile& tile, const R* heads, const R* arrived, const Kept<R>& kept, R* reading) {
  const Size N = call.N, M = call.M(), P = call.P(), weights = call.heads * N * call.S();
  const R* bias = call.mlp_bias[call.layers - 1];
  for (Size b = 0; b < tile.samples; ++b) {
    const R* own = heads + b * N * P;
    const R* arriving = arrived + b * call.n * P;
    R* A = kept.attention + b * weights;
    attend(call, own, arriving, A);
    read(call, A, own, arriving, reading + b * N * M);
    for (Size row = b * N; row < (b + 1) * N; ++row) {
      R *x = reading + row * M, *sum = kept.sum + row * M;
      const Stats<R> stats = kept.stats[tile.samples * N + row] = measure(x, M);
      normalize(x, stats, call.attention_gain, call.attention_shift, x, M);
#pragma omp simd
      for (Size i = 0; i < M; ++i) sum[i] = x[i] + bias[i];
    }
  }
}

// The hidden layers of g_psi(x), one after the other; gives what the last layer reads.
template <typename R>
const R* hide(const Call<R>& call, Size rows, const R* x, R* hidden) {
  const Blas<R> blas(call);
  const Size M = call.M();
  for (Size layer = 0; layer + 1 < call.layers; ++layer, hidden += rows * M) {
    blas.apply(x, call.mlp_weight[layer], hidden, rows, M, M, 0);
    rectify(hidden, call.mlp_bias[layer], rows, M);
    x = hidden;
  }
  return x;
}

// M~ = LN(sum) and the gates: the next memory.
template <typename R>
void finish(const Call<R>& call, const Tile& tile, Size t, const R* memory, const Kept<R>& kept, R* candidate) {
  const Size N = call.N, M = call.M(), G = call.G, rows = tile.samples * N;
  R* next = call.memories + (t * call.B + tile.begin) * N * M;
  for (Size row = 0; row < rows; ++row) {
    const R* sum = kept.sum + row * M;
    R* to = G ? candidate : next + row * M;
    const Stats<R> stats = kept.stats[2 * rows + row] = measure(sum, M);
    normalize(sum, stats, call.mlp_gain, call.mlp_shift, to, M);
    if (G == 0) continue;
    const R* drive = call.drive + (t * call.B + tile.begin + row / N) * G;
    gate(M, G, kept.gates + row * G, drive, candidate, memory + row * M, next + row * M);
  }
}

template <typename R>
void rise(const R* memory, R* risen, Size count) {
#pragma omp simd
  for (Size i = 0; i < count; ++i) risen[i] = tangent(memory[i]);
}

template <typename R>
void forward(const Call<R>& call, const Tile& tile, const Scratch<R>& scratch) {
  const Blas<R> blas(call);
  const Size M = call.M(), P = call.P(), rows = tile.samples * call.N;
  R* at = call.keeps ? call.kept + call.T * kept_size(call, tile.begin) : scratch.step;
  for (Size t = 0; t < call.T; ++t) {
    const Kept<R> kept(call, at, tile.samples);
    const R* memory = before(call, tile, t, scratch.memory);
    const Size some = distinct(call, tile, t, memory), alike = rows / some;
    blas.apply(memory, call.qkv_weight, kept.qkv, some, M, P, 0);
    spread(kept.qkv, some * P, alike);
    make_heads(call, rows, kept.qkv, kept.stats, scratch.heads);
    std::copy(memory, memory + rows * M, scratch.reading);
    arrive(call, tile, t, kept.stats + 3 * rows, scratch.arrived);
    attend_tile(call, tile, scratch.heads, scratch.arrived, kept, scratch.reading);
    const R* hidden = hide(call, rows, scratch.reading, scratch.hidden);
    blas.apply(hidden, call.mlp_weight[call.layers - 1], kept.sum, rows, M, M, 1);
    if (call.G) {
      rise(memory, scratch.risen, some * M);
      blas.apply(scratch.risen, call.gate_weight, kept.gates, some, M, call.G, 0);
      spread(kept.gates, some * call.G, alike);
    }
    finish(call, tile, t, memory, kept, scratch.candidate);
    if (call.keeps) at = kept.end;
  }
}

}  // namespace rmc
