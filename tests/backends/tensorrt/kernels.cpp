// letterbox.cu as plain C++, for the pretended driver: the same source, one thread after the other.

#define __device__
#define __global__

namespace {
struct Place {
    unsigned x, y, z;
};
thread_local Place blockIdx, blockDim, threadIdx;
}

#define letterbox one_thread
#include "letterbox.cu"
#undef letterbox

extern "C" void letterbox(const void *arguments, const unsigned grid[3], const unsigned block[3])
{
    const Work work = *static_cast<const Work *>(arguments);
    blockDim = {block[0], block[1], block[2]};
    for (blockIdx.y = 0; blockIdx.y < grid[1]; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < grid[0]; blockIdx.x++)
            for (threadIdx.y = 0; threadIdx.y < block[1]; threadIdx.y++)
                for (threadIdx.x = 0; threadIdx.x < block[0]; threadIdx.x++)
                    one_thread(work);
}
