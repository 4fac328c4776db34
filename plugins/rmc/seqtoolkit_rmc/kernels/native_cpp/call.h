// What the caller and the kernel agree on: sizes, and where parameters, sequences, gradients and working memory lie.
#pragma once
#include <cstdint>

namespace rmc {

using Size = std::int64_t;

// One call, forward or backward. native.py has the same fields in the same order. P is heads * (2 K + V), M heads * V,
// S = N + n, G the gates of a slot: 2 M, 2 or 0.
template <typename R>
struct Call {
  Size T, B, N, n, heads, K, V, G, layers, threads;
  Size keeps;         // whether forward keeps what backward needs
  Size wants_memory;  // whether the gradient of the first memory is asked for
  Size wants_weights;
  Size d_strides[4];  // of d_memories, which lies as it came; every other array is contiguous
  const void* gemm;         // sgemm_ or dgemm_
  const void* blas_threads;  // how many threads BLAS may use in the calling thread, null where it cannot be said

  const R *qkv_weight, *gate_weight;  // [P M], [G M]
  const R* const* mlp_weight;         // [M M] of each layer
  const R *qkv_bias, *qkv_gain, *qkv_shift;  // [P], 1 / sqrt(d_k) folded into the norm
  const R *attention_gain, *attention_shift, *mlp_gain, *mlp_shift;
  const R* const* mlp_bias;

  const R* arriving;          // queries, keys and values of x' before their norm, [T B n P]
  const R* drive;             // what x' and biases add to the gates, [T B G]
  const R* memory;            // [B N M]
  const R* fresh;             // [N M]
  const std::uint8_t* first;  // [T B], or null

  R* memories;  // [T B N M]
  R* kept;      // kept_size(call, B) numbers a step, tile by tile
  R* scratch;   // `threads` times scratch_size(call)

  const R* d_memories;  // [T B N M]
  R *d_arriving, *d_drive, *d_memory;
  R* d_weights;  // `threads` times weights_size(call), zero; the sum is left in the first

  Size M() const { return heads * V; }
  Size P() const { return heads * (2 * K + V); }
  Size S() const { return N + n; }
};

}  // namespace rmc
