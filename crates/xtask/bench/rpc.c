/*
 * The round trip of a call, with libtirpc (cargo xtask bench builds and runs it):
 *
 *     rpc serve SOCKET FILE      a server as rpcgen makes them, for the procedures NULL and LOG_READ of
 *                                proto/umlmonctrl.x alone; FILE is the log
 *     rpc null SOCKET N          does nothing N times over one connection; prints the median in microseconds
 *     rpc read SOCKET N          the same, and reads the first 32 KiB of the log of con1 each time
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "umlmonctrl.h"

enum { PIECE = 32 * 1024 };

static int log_file;

static void read_log(SVCXPRT *transport)
{
    static char data[CTL_DATA_MAX];
    log_read_args args = { 0 };
    if (!svc_getargs(transport, (xdrproc_t)xdr_log_read_args, (char *)&args)) {
        svcerr_decode(transport);
        return;
    }
    size_t max = args.max < sizeof data ? args.max : sizeof data;
    ssize_t count = pread(log_file, data, max, (off_t)args.offset);
    if (count < 0) {
        svcerr_systemerr(transport);
    } else {
        log_read_result result = { .status = CTL_OK };
        log_chunk *chunk = &result.log_read_result_u.chunk;
        chunk->offset = args.offset;
        chunk->data.ctl_data_len = (u_int)count;
        chunk->data.ctl_data_val = data;
        svc_sendreply(transport, (xdrproc_t)xdr_log_read_result, (char *)&result);
    }
    svc_freeargs(transport, (xdrproc_t)xdr_log_read_args, (char *)&args);
}

static void dispatch(struct svc_req *request, SVCXPRT *transport)
{
    switch (request->rq_proc) {
    case CTL_NULL:
        svc_sendreply(transport, (xdrproc_t)xdr_void, NULL);
        break;
    case LOG_READ:
        read_log(transport);
        break;
    default:
        svcerr_noproc(transport);
    }
}

static int serve(char *path, const char *file)
{
    log_file = open(file, O_RDONLY | O_CLOEXEC);
    if (log_file < 0) {
        perror(file);
        return 1;
    }
    SVCXPRT *transport = svcunix_create(RPC_ANYSOCK, 0, 0, path);
    if (transport == NULL || !svc_register(transport, UMLMONCTRL, UMLMONCTRL_V1, dispatch, 0)) {
        fprintf(stderr, "cannot serve %s\n", path);
        return 1;
    }
    svc_run();
    return 1;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
    double first = *(const double *)a, second = *(const double *)b;
    return (first > second) - (first < second);
}

static enum clnt_stat call_null(CLIENT *client)
{
    struct timeval patience = { .tv_sec = 10 };
    return clnt_call(client, CTL_NULL, (xdrproc_t)xdr_void, NULL, (xdrproc_t)xdr_void, NULL, patience);
}

static enum clnt_stat call_read(CLIENT *client)
{
    struct timeval patience = { .tv_sec = 10 };
    log_read_args args = { .file = "con1", .offset = 0, .max = PIECE };
    log_read_result result = { 0 };
    enum clnt_stat said = clnt_call(client, LOG_READ, (xdrproc_t)xdr_log_read_args, (char *)&args,
        (xdrproc_t)xdr_log_read_result, (char *)&result, patience);
    if (said != RPC_SUCCESS)
        return said;
    int whole = result.status == CTL_OK && result.log_read_result_u.chunk.data.ctl_data_len == PIECE;
    clnt_freeres(client, (xdrproc_t)xdr_log_read_result, (char *)&result);
    if (whole)
        return RPC_SUCCESS;
    fprintf(stderr, "the log of con1 does not give %d bytes\n", PIECE);
    return RPC_FAILED;
}

static int call(enum clnt_stat (*procedure)(CLIENT *), const char *path, size_t times)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    double *taken = calloc(times, sizeof *taken);
    int socket = RPC_ANYSOCK;
    if (taken == NULL || times == 0 || strlen(path) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, path);
    CLIENT *client = clntunix_create(&address, UMLMONCTRL, UMLMONCTRL_V1, &socket, 0, 0);
    if (client == NULL) {
        clnt_pcreateerror(path);
        return 1;
    }
    for (size_t i = 0; i < times; i++) {
        double begun = now();
        enum clnt_stat said = procedure(client);
        taken[i] = now() - begun;
        if (said != RPC_SUCCESS) {
            clnt_perror(client, path);
            return 1;
        }
    }
    qsort(taken, times, sizeof *taken, ascending);
    printf("%.3f\n", taken[times / 2]);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "null") == 0)
        return call(call_null, argv[2], strtoul(argv[3], NULL, 10));
    if (argc == 4 && strcmp(argv[1], "read") == 0)
        return call(call_read, argv[2], strtoul(argv[3], NULL, 10));
    fprintf(stderr, "usage: rpc serve SOCKET FILE | null SOCKET N | read SOCKET N\n");
    return 2;
}
