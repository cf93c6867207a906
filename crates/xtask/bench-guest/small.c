/* In the guest of `cargo xtask bench guest`: a program that is compiled and linked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    char line[256];
    size_t sum = 0;

    while (fgets(line, sizeof line, stdin))
        sum += strlen(line);
    printf("%s: %zu bytes, %d arguments\n", argc > 1 ? argv[1] : NAME, sum, argc);
    return EXIT_SUCCESS;
}
