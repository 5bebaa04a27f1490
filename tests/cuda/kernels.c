/* What the kernel of tests/cuda/kernels.py does, for the pretended driver. */
struct Add { unsigned long long to; unsigned int nbytes; unsigned char term; };

void add(const void *arguments, const unsigned grid[3], const unsigned block[3]) {
    const struct Add *values = arguments;
    unsigned char *to = (unsigned char *)values->to;
    for (unsigned i = 0; i < grid[0] * block[0] && i < values->nbytes; i++) to[i] += values->term;
}
