/*
 * A client as a C programmer writes it, on the stubs that rpcgen makes from proto/umlmonctrl.x. The test
 * tests/interop.rs builds it, runs it with the path of a socket and compares what it prints.
 */

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "umlmonctrl.h"

static int failed(CLIENT *client, const char *call)
{
    clnt_perror(client, call);
    return 1;
}

static int print_info(CLIENT *client)
{
    vm_info_result *result = vm_info_1(client);
    if (result == NULL)
        return failed(client, "VM_INFO");
    if (result->status != CTL_OK) {
        printf("info: error\n");
        return 1;
    }
    vm_info *info = &result->vm_info_result_u.info;
    printf("info: %s %s state %d since %" PRIu64 " responding %d\n", info->vm, info->daemon_version, info->state,
        (uint64_t)info->state_since, info->responding);
    printf("last end: %d %d %s\n", info->last_end.how, info->last_end.exit_status, info->last_end.text);
    for (u_int i = 0; i < info->channels.channels_len; i++) {
        con_info *con = &info->channels.channels_val[i];
        printf("%s %.*s writer %s watchers %u %ux%u\n", con->channel, (int)con->terminal.ctl_value_len,
            con->terminal.ctl_value_val, con->writer ? con->writer->who : "nobody", con->watchers.con_clients_len,
            con->rows, con->columns);
    }
    for (u_int i = 0; i < info->settings.config_settings_len; i++) {
        config_setting *setting = &info->settings.config_settings_val[i];
        printf("%s=%.*s from %d\n", setting->param, (int)setting->value.ctl_value_len,
            setting->value.ctl_value_val, setting->origin);
    }
    return 0;
}

static int print_read(CLIENT *client, u_int max)
{
    con_read_args args = { .channel = "con0", .offset = 0x100000002ULL, .max = max, .wait_ms = 10 };
    con_read_result *result = con_read_1(args, client);
    if (result == NULL)
        return failed(client, "CON_READ");
    if (result->status != CTL_OK) {
        ctl_error *error = &result->con_read_result_u.error;
        printf("read: error %d %s\n", error->code, error->text);
        return 0;
    }
    con_chunk *chunk = &result->con_read_result_u.chunk;
    unsigned sum = 0;
    for (u_int i = 0; i < chunk->data.ctl_data_len; i++)
        sum = sum * 31 + (unsigned char)chunk->data.ctl_data_val[i];
    printf("read: %u bytes at %" PRIu64 " sum %u writer %d\n", chunk->data.ctl_data_len, (uint64_t)chunk->offset, sum,
        chunk->writer);
    return 0;
}

static int print_write(CLIENT *client)
{
    static char data[CTL_DATA_MAX];
    memset(data, 'w', sizeof data);
    con_write_args args = { .channel = "con1", .data = { .ctl_data_len = sizeof data, .ctl_data_val = data } };
    ctl_result *result = con_write_1(args, client);
    if (result == NULL)
        return failed(client, "CON_WRITE");
    printf("write: %d\n", result->status);
    return 0;
}

static int print_resize(CLIENT *client)
{
    disk_task task = { .verb = DISK_RESIZE };
    disk_size *size = &task.disk_task_u.size;
    size->disk.disk_file_val = "/disks/a.dsk";
    size->disk.disk_file_len = strlen(size->disk.disk_file_val);
    size->megabytes = 1ULL << 33;
    size->sparse = TRUE;
    disk_job_result *result = disk_begin_1(task, client);
    if (result == NULL)
        return failed(client, "DISK_BEGIN");
    if (result->status == CTL_OK)
        printf("resize: job %u\n", result->disk_job_result_u.begun.job);
    else
        printf("resize: error %s\n", result->disk_job_result_u.error.text);
    return 0;
}

int main(int argc, char **argv)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int socket = RPC_ANYSOCK;
    if (argc != 2 || strlen(argv[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, argv[1]);
    CLIENT *client = clntunix_create(&address, UMLMONCTRL, UMLMONCTRL_V1, &socket, 0, 0);
    if (client == NULL) {
        clnt_pcreateerror("connect");
        return 1;
    }
    client->cl_auth = authunix_create("host", 1, 2, 0, NULL);

    printf("null: %s\n", ctl_null_1(client) ? "answered" : "failed");
    if (print_info(client) != 0 || print_read(client, 65536) != 0 || print_read(client, 0) != 0 || print_write(client)
        || print_resize(client))
        return 1;

    ctl_result *refused = vm_suspend_1(client);
    if (refused == NULL)
        return failed(client, "VM_SUSPEND");
    printf("suspend: %d %d %s\n", refused->status, refused->ctl_result_u.error.code, refused->ctl_result_u.error.text);

    struct timeval timeout = { 5, 0 };
    enum clnt_stat status = clnt_call(client, 99, (xdrproc_t)xdr_void, NULL, (xdrproc_t)xdr_void, NULL, timeout);
    printf("procedure 99: %s\n", clnt_sperrno(status));
    status = clnt_call(client, CON_CLOSE, (xdrproc_t)xdr_void, NULL, (xdrproc_t)xdr_void, NULL, timeout);
    printf("no arguments: %s\n", clnt_sperrno(status));
    clnt_destroy(client);

    socket = RPC_ANYSOCK;
    client = clntunix_create(&address, UMLMONCTRL, 7, &socket, 0, 0);
    status = clnt_call(client, 0, (xdrproc_t)xdr_void, NULL, (xdrproc_t)xdr_void, NULL, timeout);
    printf("version 7: %s\n", clnt_sperrno(status));
    clnt_destroy(client);
    return 0;
}
