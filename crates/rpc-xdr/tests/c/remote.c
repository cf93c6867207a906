/*
 * A client of a monitor, as a C programmer writes it with the stubs that rpcgen makes from proto/umlmonctrl.x: over the
 * local socket, or over TCP, where it authenticates and seals. A test runs it and compares what it prints.
 *
 *     remote unix PATH
 *     remote tcp PORT VM PASSWORD seal|open         (on 127.0.0.1)
 */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/un.h>
#include <unistd.h>

#include "umlmonctrl.h"

/* ---- MD5 (RFC 1321) and HMAC (RFC 2104) of one block of bytes ---- */

static void md5(const unsigned char *data, size_t size, unsigned char sum[16])
{
    static const unsigned char shifts[16] = { 7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21 };
    static const unsigned char others[4][2] = { { 1, 0 }, { 5, 1 }, { 3, 5 }, { 7, 0 } };
    uint32_t state[4] = { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476 };
    /* sin() is not exact enough everywhere; these are the integers of RFC 1321. */
    static const uint32_t sines[64] = {
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501, 0x698098d8, 0x8b44f7af,
        0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa,
        0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8,
        0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
        0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244, 0x432aff97,
        0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1, 0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1,
        0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391
    };
    size_t padded = (size + 8) / 64 * 64 + 64;
    unsigned char *all = calloc(padded, 1);
    memcpy(all, data, size);
    all[size] = 0x80;
    for (int i = 0; i < 8; i++)
        all[padded - 8 + i] = (uint64_t)size * 8 >> 8 * i;
    for (size_t start = 0; start < padded; start += 64) {
        uint32_t words[16], s[4];
        for (int i = 0; i < 16; i++)
            words[i] = all[start + 4 * i] | all[start + 4 * i + 1] << 8 | all[start + 4 * i + 2] << 16
                | (uint32_t)all[start + 4 * i + 3] << 24;
        memcpy(s, state, sizeof s);
        for (int i = 0; i < 64; i++) {
            uint32_t b = s[1], c = s[2], d = s[3];
            uint32_t mixed[4] = { (b & c) | (~b & d), (d & b) | (~d & c), b ^ c ^ d, c ^ (b | ~d) };
            int round = i / 16, shift = shifts[4 * round + i % 4];
            uint32_t sum = s[0] + mixed[round] + sines[i] + words[(others[round][0] * i + others[round][1]) % 16];
            s[0] = d, s[3] = c, s[2] = b;
            s[1] = b + (sum << shift | sum >> (32 - shift));
        }
        for (int i = 0; i < 4; i++)
            state[i] += s[i];
    }
    for (int i = 0; i < 16; i++)
        sum[i] = state[i / 4] >> 8 * (i % 4);
    free(all);
}

/* The key has sixteen bytes. */
static void hmac(const unsigned char *key, const unsigned char *data, size_t size, unsigned char sum[16])
{
    unsigned char *inner = malloc(64 + size), outer[64 + 16];
    memset(inner, 0x36, 64);
    memset(outer, 0x5c, 64);
    for (int i = 0; i < 16; i++)
        inner[i] ^= key[i], outer[i] ^= key[i];
    memcpy(inner + 64, data, size);
    md5(inner, 64 + size, outer + 64);
    md5(outer, sizeof outer, sum);
    free(inner);
}

/* ---- the authentication ---- */

static void proof(const unsigned char *key, auth_transcript *transcript, auth_purpose purpose, unsigned char sum[16])
{
    char bytes[512];
    XDR xdr;
    transcript->purpose = purpose;
    xdrmem_create(&xdr, bytes, sizeof bytes, XDR_ENCODE);
    if (!xdr_auth_transcript(&xdr, transcript))
        abort();
    hmac(key, (unsigned char *)bytes, xdr_getpos(&xdr), sum);
}

struct keys {
    unsigned char calls[16], replies[16];
};

/* Returns 0 if both sides know the password. */
static int authenticate(CLIENT *client, char *vm, const char *password, bool_t seal, struct keys *keys)
{
    unsigned char key[16], expected[16];
    auth_begin_args begin = { .vm = vm, .seal = seal };
    if (getrandom(begin.client_nonce, sizeof begin.client_nonce, 0) != sizeof begin.client_nonce)
        return 1;
    auth_begin_result *challenge = auth_begin_1(begin, client);
    if (challenge == NULL || challenge->status != CTL_OK) {
        printf("begin: %s\n", challenge ? challenge->auth_begin_result_u.error.text : clnt_sperror(client, "lost"));
        return 1;
    }
    auth_transcript transcript = { .prog = UMLMONAUTH, .vers = UMLMONAUTH_V1, .vm = vm, .seal = seal };
    memcpy(transcript.client_nonce, begin.client_nonce, sizeof begin.client_nonce);
    memcpy(transcript.server_nonce, challenge->auth_begin_result_u.challenge.server_nonce, 16);
    md5((const unsigned char *)password, strlen(password), key);
    auth_proof mine;
    proof(key, &transcript, AUTH_CLIENT_PROOF, (unsigned char *)mine.proof);
    auth_prove_result *answer = auth_prove_1(mine, client);
    if (answer == NULL || answer->status != CTL_OK) {
        printf("prove: %s\n", answer ? answer->auth_prove_result_u.error.text : clnt_sperror(client, "lost"));
        return 1;
    }
    proof(key, &transcript, AUTH_SERVER_PROOF, expected);
    if (memcmp(expected, answer->auth_prove_result_u.server.proof, sizeof expected) != 0) {
        printf("an impostor\n");
        return 1;
    }
    proof(key, &transcript, AUTH_CALL_KEY, keys->calls);
    proof(key, &transcript, AUTH_REPLY_KEY, keys->replies);
    return 0;
}

/* ---- seals, as an authentication of libtirpc's ---- */

static struct {
    struct keys keys;
    uint64_t number;            /* one call at a time, so it is that of the reply, too */
    uint32_t xid, procedure;
    xdrproc_t encode;
    void *arguments;
    unsigned char got[16];
} seal;

/* Seals a message of these words, then a verifier, then the rest. */
static void seal_of(const unsigned char *key, const uint32_t *words, int count, const uint32_t *behind, int more,
    xdrproc_t encode, void *value, unsigned char sum[16])
{
    size_t size = 1 << 20;
    char *bytes = malloc(size);
    XDR xdr;
    uint32_t header[] = { seal.number >> 32, seal.number }, verifier[] = { AUTH_FLAVOR_SEAL, 16, 0, 0, 0, 0 };
    xdrmem_create(&xdr, bytes, size, XDR_ENCODE);
    for (int i = 0; i < 2; i++)
        xdr_uint32_t(&xdr, &header[i]);
    for (int i = 0; i < count; i++)
        xdr_uint32_t(&xdr, (uint32_t *)&words[i]);
    for (int i = 0; i < 6; i++)
        xdr_uint32_t(&xdr, &verifier[i]);
    for (int i = 0; i < more; i++)
        xdr_uint32_t(&xdr, (uint32_t *)&behind[i]);
    if (!encode(&xdr, value))
        abort();
    hmac(key, (unsigned char *)bytes, xdr_getpos(&xdr), sum);
    free(bytes);
}

static void seal_nextverf(AUTH *auth)
{
    (void)auth;
}

static int seal_marshal(AUTH *auth, XDR *xdr)
{
    (void)auth;
    uint32_t words[] = { seal.xid, 0, 2, UMLMONCTRL, UMLMONCTRL_V1, seal.procedure, 0, 0 };
    unsigned char sum[16];
    seal_of(seal.keys.calls, words, 8, NULL, 0, seal.encode, seal.arguments, sum);
    struct opaque_auth none = { .oa_flavor = AUTH_NONE };
    struct opaque_auth verifier = { .oa_flavor = AUTH_FLAVOR_SEAL, .oa_base = (char *)sum, .oa_length = 16 };
    return xdr_opaque_auth(xdr, &none) && xdr_opaque_auth(xdr, &verifier);
}

static int seal_validate(AUTH *auth, struct opaque_auth *verifier)
{
    (void)auth;
    if (verifier->oa_flavor != AUTH_FLAVOR_SEAL || verifier->oa_length != 16)
        return FALSE;
    memcpy(seal.got, verifier->oa_base, 16);
    return TRUE;
}

static int seal_refresh(AUTH *auth, void *what)
{
    (void)auth, (void)what;
    return FALSE;
}

static void seal_destroy(AUTH *auth)
{
    (void)auth;
}

static int seal_wrap(AUTH *auth, XDR *xdr, xdrproc_t code, caddr_t where)
{
    (void)auth;
    return code(xdr, where);
}

static struct auth_ops seal_ops = { .ah_nextverf = seal_nextverf, .ah_marshal = seal_marshal,
    .ah_validate = seal_validate, .ah_refresh = seal_refresh, .ah_destroy = seal_destroy, .ah_wrap = seal_wrap,
    .ah_unwrap = seal_wrap };

/* A call with a seal, whose reply must have one; 0 if so. */
static int sealed_call(CLIENT *client, uint32_t procedure, xdrproc_t encode, void *arguments, xdrproc_t decode,
    void *result)
{
    static AUTH auth = { .ah_ops = &seal_ops };
    struct timeval patience = { .tv_sec = 25 };
    uint32_t accepted[] = { 0, 1, 0 }, success[] = { 0 };
    unsigned char sum[16];
    client->cl_auth = &auth;
    /* What is sealed has to be known before: libtirpc adds one, and takes one off the number as it lies in memory. */
    uint32_t number = 100 + seal.number;
    clnt_control(client, CLSET_XID, (char *)&number);
    accepted[0] = seal.xid = ntohl(htonl(number + 1) - 1);
    seal.procedure = procedure, seal.encode = encode, seal.arguments = arguments;
    if (clnt_call(client, procedure, encode, arguments, decode, result, patience) != RPC_SUCCESS) {
        clnt_perror(client, "sealed call");
        return 1;
    }
    seal_of(seal.keys.replies, accepted, 3, success, 1, decode, result, sum);
    seal.number++;
    return memcmp(sum, seal.got, sizeof sum) != 0;
}

/* ---- calls ---- */

static int sealed_session(CLIENT *client)
{
    static vm_info_result info;
    static con_open_result opened;
    con_open_args args = { .channel = "con0", .mode = CON_WATCH, .who = "C" };
    ctl_name nowhere = "con9";
    static ctl_result closed;
    if (sealed_call(client, VM_INFO, (xdrproc_t)xdr_void, NULL, (xdrproc_t)xdr_vm_info_result, &info))
        return 1;
    printf("info: %s\n", info.vm_info_result_u.info.vm);
    if (sealed_call(client, CON_OPEN, (xdrproc_t)xdr_con_open_args, &args, (xdrproc_t)xdr_con_open_result, &opened))
        return 1;
    printf("open: %d\n", opened.status);
    if (sealed_call(client, CON_CLOSE, (xdrproc_t)xdr_ctl_name, &nowhere, (xdrproc_t)xdr_ctl_result, &closed))
        return 1;
    printf("close: %d %d\n", closed.status, closed.ctl_result_u.error.code);
    return 0;
}

static int open_session(CLIENT *client)
{
    vm_info_result *info = vm_info_1(client);
    if (info == NULL) {
        clnt_perror(client, "VM_INFO");
        return 1;
    }
    printf("info: %s\n", info->vm_info_result_u.info.vm);
    con_open_args args = { .channel = "con0", .mode = CON_WATCH, .who = "C" };
    con_open_result *opened = con_open_1(args, client);
    printf("open: %d\n", opened ? opened->status : -1);
    ctl_result *closed = con_close_1("con9", client);
    printf("close: %d %d\n", closed ? closed->status : -1, closed ? closed->ctl_result_u.error.code : 0);
    return 0;
}

static CLIENT *client_on(int fd, struct sockaddr *address, socklen_t size, u_long program)
{
    struct netbuf peer = { .buf = address, .len = size, .maxlen = size };
    CLIENT *client = clnt_vc_create(fd, &peer, program, 1, 0, 0);
    if (client == NULL)
        clnt_pcreateerror("remote");
    return client;
}

int main(int argc, char **argv)
{
    if (argc == 3) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[2]);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
            return 2;
        return open_session(client_on(fd, (struct sockaddr *)&address, sizeof address, UMLMONCTRL));
    }
    if (argc != 6)
        return 2;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(argv[2])) };
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        return 2;
    bool_t sealed = strcmp(argv[5], "seal") == 0;
    CLIENT *door = client_on(fd, (struct sockaddr *)&address, sizeof address, UMLMONAUTH);
    if (door == NULL || authenticate(door, argv[3], argv[4], sealed, &seal.keys) != 0)
        return 0;
    clnt_destroy(door);
    CLIENT *client = client_on(fd, (struct sockaddr *)&address, sizeof address, UMLMONCTRL);
    return sealed ? sealed_session(client) : open_session(client);
}
