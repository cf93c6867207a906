/* In the guest of `cargo xtask bench guest`: what a guest needs its kernel for, NAME COUNT times. */
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fork_and_execute(void)
{
    int status;
    pid_t child = fork();

    if (child < 0)
        err(1, "fork");
    if (child == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    if (waitpid(child, &status, 0) < 0 || status != 0)
        errx(1, "/bin/true fails");
}

static void touch_pages(long count)
{
    long size = sysconf(_SC_PAGESIZE);
    char *memory = mmap(NULL, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        err(1, "mmap");
    for (long page = 0; page < count; page++)
        memory[page * size] = 1;
}

int main(int argc, char **argv)
{
    const char *name = argc == 3 ? argv[1] : "";
    long count = argc == 3 ? atol(argv[2]) : 0;

    if (strcmp(name, "fork") == 0)
        for (long n = 0; n < count; n++)
            fork_and_execute();
    else if (strcmp(name, "faults") == 0)
        touch_pages(count);
    else if (strcmp(name, "getpid") == 0)
        for (long n = 0; n < count; n++)
            syscall(SYS_getpid);
    else
        errx(1, "usage: calls fork|faults|getpid COUNT");
    return 0;
}
