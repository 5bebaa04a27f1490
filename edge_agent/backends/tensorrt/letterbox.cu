// From a camera's picture to a model's input: resize, pad, colour and values in one pass, a thread for each pixel written.
//
// The same arithmetic as cv2.resize with INTER_LINEAR on 8 bits (integers, weights of 11 bits, intermediate sums cut off at
// the same bits) and as cv2.cvtColor to grey, so that a picture comes out as it does by OpenCV. What depends on an axis
// alone (pixels and weights) and what stands for a pixel value in the input come in as tables, so that nothing is rounded
// here that is not rounded in the same way on the CPU.
//
// scripts/build_ptx makes letterbox.ptx of this.

// What a row or column of the resized picture is made of: two of the frame's, by their offsets in bytes, and weights of
// 0..2048.
struct Tap {
    int first, second;
    int first_weight, second_weight;
};

// What a launch works on. Sizes and places are in pixels of the input, steps in numbers of the input.
struct Work {
    const unsigned char *frame;  // BGR
    const Tap *taps;             // of the inner columns, then of the inner rows
    const void *table;           // (channels, 256)
    void *input;
    int inner_left, inner_top, inner_width, inner_height;  // where the resized picture lies
    int part_left, part_top, part_width, part_height;      // what is written: all, or only the resized picture
    int pixel_step, row_step, channel_step;
    int channels;                                          // 3, or 1: grey
    int rgb;                                               // else blue comes first, as in the frame
    int padding;                                           // a pixel value, 0..255
    int bytes;                                             // of a number of the input: 1, 2 or 4
};

// One colour of one pixel. Sums of up to 255 * 2048 lose 4 bits, products with the second weight 16, the rest 2.
static __device__ int blend(const unsigned char *frame, const Tap &column, const Tap &row, int colour)
{
    const unsigned char *first = frame + row.first + colour, *second = frame + row.second + colour;
    int above = first[column.first] * column.first_weight + first[column.second] * column.second_weight;
    int below = second[column.first] * column.first_weight + second[column.second] * column.second_weight;
    return (((above >> 4) * row.first_weight >> 16) + ((below >> 4) * row.second_weight >> 16) + 2) >> 2;
}

// 0.299 R + 0.587 G + 0.114 B with weights of 15 bits, as OpenCV has them.
static __device__ int grey(int blue, int green, int red)
{
    return (blue * 3735 + green * 19235 + red * 9798 + (1 << 14)) >> 15;
}

// Copies what stands for a pixel value in one channel.
static __device__ void put(const Work &work, int index, int channel, int value)
{
    int entry = channel * 256 + value;
    if (work.bytes == 4)
        static_cast<unsigned int *>(work.input)[index] = static_cast<const unsigned int *>(work.table)[entry];
    else if (work.bytes == 2)
        static_cast<unsigned short *>(work.input)[index] = static_cast<const unsigned short *>(work.table)[entry];
    else
        static_cast<unsigned char *>(work.input)[index] = static_cast<const unsigned char *>(work.table)[entry];
}

extern "C" __global__ void letterbox(const Work work)
{
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= work.part_width || y >= work.part_height)
        return;
    x += work.part_left;
    y += work.part_top;

    int blue = work.padding, green = work.padding, red = work.padding;
    int column = x - work.inner_left, row = y - work.inner_top;
    if (column >= 0 && column < work.inner_width && row >= 0 && row < work.inner_height) {
        const Tap across = work.taps[column], down = work.taps[work.inner_width + row];
        blue = blend(work.frame, across, down, 0);
        green = blend(work.frame, across, down, 1);
        red = blend(work.frame, across, down, 2);
    }

    int index = y * work.row_step + x * work.pixel_step;
    if (work.channels == 1) {
        put(work, index, 0, grey(blue, green, red));
        return;
    }
    put(work, index, 0, work.rgb ? red : blue);
    put(work, index + work.channel_step, 1, green);
    put(work, index + 2 * work.channel_step, 2, work.rgb ? blue : red);
}
