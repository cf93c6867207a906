/* What somebody asks of the host's kernel who has broken out of the guest, in arguments of calls that he may make (the
 * end-to-end tests; run in the jail by the fake kernel, and outside of it to see that each attempt would work there).
 *
 *     hostile DIRECTORY TAP
 *     hostile lease FILE
 *
 * DIRECTORY may be written to, TAP is a tap of the user's own. Standard input is a terminal. For each attempt it prints
 * "NAME: done" or "NAME: REASON". */

#define _GNU_SOURCE
#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/quota.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *name, long result)
{
    printf("%s: %s\n", name, result < 0 ? strerror(errno) : "done");
}

/* The result of a call that makes a process, which ends at once. */
static long child(long pid)
{
    if (pid == 0)
        _exit(0);
    if (pid > 0)
        waitpid(pid, NULL, __WALL);
    return pid;
}

static void leases(const char *directory)
{
    int fd;

    if (chdir(directory) == 0 && (fd = open("leased", O_CREAT | O_RDWR, 0600)) >= 0) {
        tell("lease a file", fcntl(fd, F_SETLEASE, F_WRLCK));
        close(fd);
    }
    unlink("leased");
    fd = open(".", O_RDONLY | O_DIRECTORY);
    tell("be notified of files", fcntl(fd, F_NOTIFY, DN_CREATE));
    close(fd);
}

/* The project of a file is what a quota of the host is counted by. */
static void quota(const char *directory)
{
    struct fsxattr attributes;
    int fd = open(directory, O_RDONLY | O_DIRECTORY);

    memset(&attributes, 0, sizeof attributes);
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) == 0)
        attributes.fsx_xflags &= FS_XFLAG_PROJINHERIT;
    tell("change a project", ioctl(fd, FS_IOC_FSSETXATTR, &attributes));
    close(fd);
    tell("control quotas", syscall(SYS_quotactl, QCMD(Q_SYNC, PRJQUOTA), NULL, 0, NULL));
}

static void namespaces(void)
{
    struct clone_args args = { .flags = CLONE_NEWUSER, .exit_signal = SIGCHLD };

    tell("clone into namespaces", child(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)));
    tell("clone3 into namespaces", child(syscall(SYS_clone3, &args, sizeof args)));
}

/* A daemon of the host has this one. */
static void abstract_socket(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "\0umlmon-e2e" };
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + 11;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

    tell("reach a daemon", sendto(fd, "x", 1, 0, (struct sockaddr *)&address, length));
    close(fd);
}

static void tap(const char *name)
{
    struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    int fd = open("/dev/net/tun", O_RDWR);

    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    /* This one is allowed, or the others would prove nothing. */
    tell("attach to a tap", ioctl(fd, TUNSETIFF, &request));
    request.ifr_hwaddr.sa_family = 1;
    memcpy(request.ifr_hwaddr.sa_data, "\x0a\x66\x66\x66\x66\x66", 6);
    tell("change the address of a tap", ioctl(fd, SIOCSIFHWADDR, &request));
    tell("keep a tap", ioctl(fd, TUNSETPERSIST, 1));
    tell("give a tap away", ioctl(fd, TUNSETOWNER, 12345));
}

/* Holds a lease on a file until standard input ends: whoever opens it waits. */
static int hold(const char *file)
{
    char byte;

    signal(SIGIO, SIG_IGN);
    tell("lease", fcntl(open(file, O_RDWR), F_SETLEASE, F_WRLCK));
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}

int main(int argc, char **argv)
{
    struct rlimit old;
    int discipline = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && strcmp(argv[1], "lease") == 0)
        return hold(argv[2]);
    if (argc != 3)
        return 2;
    leases(argv[1]);
    quota(argv[1]);
    namespaces();
    tell("limit another process", prlimit(getppid(), RLIMIT_NOFILE, NULL, &old));
    tell("change a line discipline", ioctl(0, TIOCSETD, &discipline));
    abstract_socket();
    tap(argv[2]);
    return 0;
}
