// All steps of one tile, backward, from the last to the first.
#pragma once
#include "forward.h"

namespace rmc {

// Gradients of weights [out in], of biases and of norms, in the order in which native.py reads them.
template <typename R>
struct Weights {
  R *qkv, *gate, *mlp, *vectors;  // [P M], [G M], [layers M M]; vectors as below
  R *qkv_bias, *qkv_gain, *qkv_shift, *attention_gain, *attention_shift, *mlp_gain, *mlp_shift, *mlp_bias, *unread;
  Size size, count;

  // The vectors are added up for a step at a time, in `vectors`, and then to the others.
  Weights(const Call<R>& call, R* at, R* step) {
    const Size M = call.M(), P = call.P();
    qkv = at;
    gate = qkv + P * M;
    mlp = gate + call.G * M;
    vectors = mlp + call.layers * M * M;
    count = 3 * P + (4 + call.layers) * M;
    size = vectors + count - at;
    qkv_bias = step;
    qkv_gain = qkv_bias + P;
    qkv_shift = qkv_gain + P;
    attention_gain = qkv_shift + P;
    attention_shift = attention_gain + M;
    mlp_gain = attention_shift + M;
    mlp_shift = mlp_gain + M;
    mlp_bias = mlp_shift + M;
    unread = step + count;
  }
};

// One tile's way back; `d_memory` of the scratch is the gradient of the memory that the step at hand has made.
template <typename R>
struct Backward {
  const Call<R>& call;
  const Tile& tile;
  const Scratch<R>& scratch;
  const Weights<R>& weights;
  const Blas<R> blas{call};
  const Size N = call.N, M = call.M(), P = call.P(), G = call.G, rows = tile.samples * N;

  // Adds the gradient that comes from outside.
  void arrive(Size t) const {
    const Size* strides = call.d_strides;
    R* d = scratch.d_memory;
    for (Size row = 0; row < rows; ++row, d += M) {
      const R* given = call.d_memories + t * strides[0] + (tile.begin + row / N) * strides[1] + row % N * strides[2];
      if (strides[3] == 1) {
#pragma omp simd
        for (Size i = 0; i < M; ++i) d[i] += given[i];
      } else {
        for (Size i = 0; i < M; ++i) d[i] += given[i * strides[3]];
      }
    }
  }

  // Through the gates and the last norm: d_sum; d_memory becomes what comes by way of the forget gate.
  void open(Size t, const R* memory, const Kept<R>& kept) const {
    const Stats<R>* stats = kept.stats + 2 * rows;
    R* d_bias = weights.mlp_bias + (call.layers - 1) * M;
    R* d_drive = call.d_drive + (t * call.B + tile.begin) * G;
    clear(d_drive, tile.samples * G);
    for (Size row = 0; row < rows; ++row) {
      const R* sum = kept.sum + row * M;
      R *d = scratch.d_sum + row * M, *d_memory = scratch.d_memory + row * M;
      if (G) {
        normalize(sum, stats[row], call.mlp_gain, call.mlp_shift, d, M);
        gate_back(M, G, kept.gates + row * G, memory + row * M, d, d_memory, scratch.d_gates + row * G,
                  d_drive + row / N * G);
      } else {
        std::copy(d_memory, d_memory + M, d);
        clear(d_memory, M);
      }
      normalize_back(sum, stats[row], call.mlp_gain, d, weights.mlp_gain, weights.mlp_shift, d_bias, M);
    }
  }

  // Queries, keys and values again, M + A, its norm, and the hidden layers of g_psi.
  void again(Size t, const R* memory, const Kept<R>& kept) const {
    for (Size row = 0; row < rows; ++row)
      normalize(kept.qkv + row * P, kept.stats[row], call.qkv_gain, call.qkv_shift, scratch.heads + row * P, P);
    for (Size row = 0; row < tile.samples * call.n; ++row)
      normalize(call.arriving + (t * call.B + tile.begin) * call.n * P + row * P, kept.stats[3 * rows + row], call.qkv_gain,
                call.qkv_shift, scratch.arrived + row * P, P);
    std::copy(memory, memory + rows * M, scratch.reading);
    for (Size b = 0; b < tile.samples; ++b)
      read(call, kept.attention + b * N * call.heads * call.S(), scratch.heads + b * N * P, scratch.arrived + b * call.n * P,
           scratch.reading + b * N * M);
    for (Size row = 0; row < rows; ++row)
      normalize(scratch.reading + row * M, kept.stats[rows + row], call.attention_gain, call.attention_shift,
                scratch.candidate + row * M, M);
    hide(call, rows, scratch.candidate, scratch.hidden);
  }

  // Through g_psi: d_sum becomes the gradient of R = LN(M + A).
  void unperceive() const {
    R *d = scratch.d_sum, *other = scratch.d_hidden;
    for (Size layer = call.layers - 1; layer >= 0; --layer) {
      const R* x = layer ? scratch.hidden + (layer - 1) * rows * M : scratch.candidate;
      if (call.wants_weights) blas.weigh(d, x, weights.mlp + layer * M * M, rows, M, M);
      if (layer == 0) break;
      blas.back(d, call.mlp_weight[layer], other, rows, M, M, 0);
      unrectify(x, other, weights.mlp_bias + (layer - 1) * M);
      d = other;
      other = other == scratch.d_hidden ? scratch.d_risen : scratch.d_hidden;
    }
    if (call.layers == 1) {  // what is read must not be what is written
      std::copy(d, d + rows * M, other);
      d = other;
    }
    blas.back(d, call.mlp_weight[0], scratch.d_sum, rows, M, M, 1);
  }

  void unrectify(const R* hidden, R* d, R* d_bias) const {
    for (Size row = 0; row < rows; ++row, hidden += M, d += M) {
#pragma omp simd
      for (Size i = 0; i < M; ++i) {
        d[i] = hidden[i] <= 0 ? 0 : d[i];
        d_bias[i] += d[i];
      }
    }
  }

  // Through the attention and the norms around it, up to [Q K V] before its norm: d_heads.
  void unattend(Size t, const Kept<R>& kept) const {
    const Size at = (t * call.B + tile.begin) * call.n * P;
    const R* arriving = call.arriving + at;
    R* d_arriving = call.d_arriving + at;
    for (Size row = 0; row < rows; ++row) {
      R *d = scratch.d_sum + row * M, *d_memory = scratch.d_memory + row * M;
      normalize_back(scratch.reading + row * M, kept.stats[rows + row], call.attention_gain, d, weights.attention_gain,
                     weights.attention_shift, d_memory, M);
    }
    for (Size b = 0; b < tile.samples; ++b)
      attend_back(call, kept.attention + b * N * call.heads * call.S(), scratch.heads + b * N * P,
                  scratch.arrived + b * call.n * P, scratch.d_sum + b * N * M, scratch.d_attention,
                  scratch.d_heads + b * N * P, d_arriving + b * call.n * P);
    for (Size row = 0; row < tile.samples * call.n; ++row)  // the bias has its gradient where x' is projected
      normalize_back(arriving + row * P, kept.stats[3 * rows + row], call.qkv_gain, d_arriving + row * P, weights.qkv_gain,
                     weights.qkv_shift, weights.unread, P);
    for (Size row = 0; row < rows; ++row)
      normalize_back(kept.qkv + row * P, kept.stats[row], call.qkv_gain, scratch.d_heads + row * P, weights.qkv_gain,
                     weights.qkv_shift, weights.qkv_bias, P);
  }

  // A product as narrow as that of one gate a slot BLAS sums number after number, and loses digits.
  void weigh_gates(const R* risen, Size some) const {
    if (G != 2) return blas.weigh(scratch.d_gates, risen, weights.gate, some, M, G);
    for (Size gate = 0; gate < G; ++gate) {
      R *sum = scratch.d_sum, *total = weights.gate + gate * M;
      clear(sum, M);
      combine(scratch.d_gates + gate, G, risen, M, some, M, sum);
      for (Size i = 0; i < M; ++i) total[i] += sum[i];
    }
  }

  // Into the memory that the step began with, where anybody asks.
  void leave(Size t, const R* memory) const {
    const bool on = t > 0 || call.wants_memory;
    const Size some = on ? rows : distinct(call, tile, t, memory), alike = rows / some;
    if (G) {
      R *risen = scratch.risen, *d_risen = scratch.d_risen, *d = scratch.d_memory;
      if (on || call.wants_weights) rise(memory, risen, some * M);
      gather(scratch.d_gates, some * G, alike);
      if (call.wants_weights) weigh_gates(risen, some);
      if (on) {
        blas.back(scratch.d_gates, call.gate_weight, d_risen, rows, M, G, 0);
#pragma omp simd
        for (Size i = 0; i < rows * M; ++i) d[i] += d_risen[i] * (1 - risen[i] * risen[i]);
      }
    }
    gather(scratch.d_heads, some * P, alike);
    if (call.wants_weights) blas.weigh(scratch.d_heads, memory, weights.qkv, some, M, P);
    if (on) blas.back(scratch.d_heads, call.qkv_weight, scratch.d_memory, rows, M, P, 1);
    for (Size b = 0; call.first && b < tile.samples; ++b)
      if (call.first[t * call.B + tile.begin + b]) clear(scratch.d_memory + b * N * M, N * M);
  }

  void run() const {
    const Size count = kept_size(call, tile.samples);
    clear(scratch.d_memory, rows * M);
    for (Size t = call.T - 1; t >= 0; --t) {
      const Kept<R> kept(call, call.kept + call.T * kept_size(call, tile.begin) + t * count, tile.samples);
      const R* memory = before(call, tile, t, scratch.memory);
      clear(scratch.d_vectors, weights.count + P);
      arrive(t);
      open(t, memory, kept);
      again(t, memory, kept);
      unperceive();
      unattend(t, kept);
      leave(t, memory);
      for (Size i = 0; i < weights.count; ++i) weights.vectors[i] += scratch.d_vectors[i];
    }
    if (call.wants_memory) std::copy_n(scratch.d_memory, rows * M, call.d_memory + tile.begin * N * M);
  }
};

}  // namespace rmc
