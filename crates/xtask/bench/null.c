/*
 * The round trip of a call that does nothing, with libtirpc (cargo xtask bench builds and runs it):
 *
 *     null serve SOCKET      a server as rpcgen makes them, for the NULL procedure of proto/umlmonctrl.x alone
 *     null call SOCKET N     calls it N times over one connection; prints the median in microseconds
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>

#include "umlmonctrl.h"

static void dispatch(struct svc_req *request, SVCXPRT *transport)
{
    if (request->rq_proc == CTL_NULL)
        svc_sendreply(transport, (xdrproc_t)xdr_void, NULL);
    else
        svcerr_noproc(transport);
}

static int serve(char *path)
{
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

static int call(const char *path, size_t times)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval patience = { .tv_sec = 10 };
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
        enum clnt_stat said = clnt_call(client, CTL_NULL, (xdrproc_t)xdr_void, NULL, (xdrproc_t)xdr_void, NULL, patience);
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
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2]);
    if (argc == 4 && strcmp(argv[1], "call") == 0)
        return call(argv[2], strtoul(argv[3], NULL, 10));
    fprintf(stderr, "usage: null serve SOCKET | call SOCKET N\n");
    return 2;
}
