// Matrix products by the BLAS that torch brings along, for arrays with rows one after the other.
#pragma once
#include "call.h"

namespace rmc {

template <typename R>
struct Blas {
  using Gemm = void (*)(const char*, const char*, const int*, const int*, const int*, const R*, const R*, const int*,
                        const R*, const int*, const R*, R*, const int*);
  Gemm gemm;

  explicit Blas(const Call<R>& call) : gemm(reinterpret_cast<Gemm>(const_cast<void*>(call.gemm))) {}

  // Y [rows out] = X [rows in] W [out in]^T + beta Y
  void apply(const R* X, const R* W, R* Y, Size rows, Size in, Size out, R beta) const {
    product("T", "N", out, rows, in, W, in, X, in, beta, Y, out);
  }

  // dX [rows in] = dY [rows out] W [out in] + beta dX
  void back(const R* dY, const R* W, R* dX, Size rows, Size in, Size out, R beta) const {
    product("N", "N", in, rows, out, W, in, dY, out, beta, dX, in);
  }

  // dW [out in] += dY [rows out]^T X [rows in]
  void weigh(const R* dY, const R* X, R* dW, Size rows, Size in, Size out) const {
    product("N", "T", in, out, rows, X, in, dY, out, 1, dW, in);
  }

 private:
  void product(const char* left, const char* right, Size m, Size n, Size k, const R* A, Size lda, const R* B, Size ldb,
               R beta, R* C, Size ldc) const {
    const int sizes[] = {int(m), int(n), int(k), int(lda), int(ldb), int(ldc)};
    const R one = 1;
    gemm(left, right, sizes, sizes + 1, sizes + 2, &one, A, sizes + 3, B, sizes + 4, &beta, C, sizes + 5);
  }
};

// Holds BLAS to one thread in the calling thread while it lives; says how it was afterwards.
template <typename R>
struct OneThread {
  using Set = int (*)(int);
  Set set;
  int before;

  explicit OneThread(const Call<R>& call)
      : set(reinterpret_cast<Set>(const_cast<void*>(call.blas_threads))), before(set ? set(1) : 0) {}
  ~OneThread() {
    if (set) set(before);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
};

}  // namespace rmc
