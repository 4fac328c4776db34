// The relational memory core's loop over time for the CPU, forward and backward, behind a plain C interface.
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "backward.h"

namespace rmc {

// Runs work(thread) in each of the threads, the first of them being the caller's.
template <typename R, typename Work>
void share(const Call<R>& call, const Work& work) {
  const auto alone = [&](Size thread) {
    const OneThread<R> one(call);
    work(thread);
  };
  std::vector<std::thread> others;
  others.reserve(call.threads);
  Size begun = 1;
  try {
    for (; begun < call.threads; ++begun) others.emplace_back(alone, begun);
  } catch (const std::system_error&) {
    // No more threads are to be had: what they would have done is done here.
  }
  alone(0);
  for (Size thread = begun; thread < call.threads; ++thread) alone(thread);
  for (auto& other : others) other.join();
}

// Runs work(tile, thread) over all tiles; which thread has which depends on nothing but the sizes.
template <typename R, typename Work>
void each_tile(const Call<R>& call, const Work& work) {
  const Size count = tiles(call);
  share(call, [&](Size thread) {
    for (Size i = count * thread / call.threads; i < count * (thread + 1) / call.threads; ++i)
      work(Tile(call, i, count), thread);
  });
}

template <typename R>
void run_forward(const Call<R>& call) {
  const Size room = Scratch<R>(call, nullptr, false).used;
  each_tile(call, [&](const Tile& tile, Size thread) {
    forward(call, tile, Scratch<R>(call, call.scratch + thread * room, false));
  });
}

template <typename R>
void run_backward(const Call<R>& call) {
  const Size room = Scratch<R>(call, nullptr, true).used, size = weights_size(call);
  each_tile(call, [&](const Tile& tile, Size thread) {
    const Scratch<R> scratch(call, call.scratch + thread * room, true);
    const Weights<R> weights(call, scratch.d_weights, scratch.d_vectors);
    clear(scratch.d_weights, size);
    Backward<R>{call, tile, scratch, weights}.run();
    R* total = call.d_weights + thread * size;  // tiles apart: one sum over all tiles and steps would lose digits
    for (Size i = 0; i < size; ++i) total[i] += scratch.d_weights[i];
  });
  for (Size thread = 1; thread < call.threads; ++thread)
    for (Size i = 0; i < size; ++i) call.d_weights[i] += call.d_weights[thread * size + i];
}

// Numbers that a step keeps, that a thread works in forward and backward, and that the gradients of weights take.
template <typename R>
void measure_call(const Call<R>& call, Size* sizes) {
  sizes[0] = kept_size(call, call.B);
  sizes[1] = Scratch<R>(call, nullptr, false).used;
  sizes[2] = Scratch<R>(call, nullptr, true).used;
  sizes[3] = weights_size(call);
}

}  // namespace rmc

extern "C" {
std::int64_t rmc_call_size() { return sizeof(rmc::Call<float>); }
void rmc_measure_float(const void* call, std::int64_t* sizes) {
  rmc::measure_call(*static_cast<const rmc::Call<float>*>(call), sizes);
}
void rmc_measure_double(const void* call, std::int64_t* sizes) {
  rmc::measure_call(*static_cast<const rmc::Call<double>*>(call), sizes);
}
void rmc_forward_float(const void* call) { rmc::run_forward(*static_cast<const rmc::Call<float>*>(call)); }
void rmc_forward_double(const void* call) { rmc::run_forward(*static_cast<const rmc::Call<double>*>(call)); }
void rmc_backward_float(const void* call) { rmc::run_backward(*static_cast<const rmc::Call<float>*>(call)); }
void rmc_backward_double(const void* call) { rmc::run_backward(*static_cast<const rmc::Call<double>*>(call)); }
}
