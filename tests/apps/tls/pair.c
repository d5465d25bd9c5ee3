// Times calls of OpenSSL, and bare uprobes, in one thread of one process.
//
//   pair CERTIFICATE KEY
//
// Reads lines and answers each with nanoseconds of this thread's CPU, the median of BATCHES:
//
//   pairs COUNT     per SSL_write and the SSL_read of the same 100 bytes at the other end of a
//                   socketpair; HTTP requests and responses in turns, on a session of its own
//   none COUNT      per call of a function that does nothing
//   emulated COUNT  the same with a uprobe on it, whose BPF program does nothing, at an instruction
//                   that the kernel emulates
//   stepped COUNT   the same at one that it single-steps
#include <err.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <openssl/ssl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 100, BATCHES = 21 };

static int by_size(const void *one, const void *other) {
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

static double median(double *times) {
	qsort(times, BATCHES, sizeof *times, by_size);
	return times[BATCHES / 2];
}

static double now(void) {
	struct timespec time;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static SSL *session(const SSL_METHOD *method, char **files, int socket) {
	SSL_CTX *context = SSL_CTX_new(method);
	if (files && (SSL_CTX_use_certificate_file(context, files[0], SSL_FILETYPE_PEM) != 1 ||
	              SSL_CTX_use_PrivateKey_file(context, files[1], SSL_FILETYPE_PEM) != 1))
		errx(1, "certificate or key");
	SSL_CTX_set_num_tickets(context, 0);
	SSL *made = SSL_new(context);
	SSL_CTX_free(context);
	SSL_set_fd(made, socket);
	return made;
}

static void move(SSL *from, SSL *to, const char *bytes) {
	char got[BYTES];
	if (SSL_write(from, bytes, BYTES) != BYTES || SSL_read(to, got, BYTES) != BYTES)
		errx(1, "SSL_write or SSL_read");
}

// A message of BYTES bytes: a head, its last value as long as needed.
static char *message(const char *head) {
	static char texts[2][BYTES + 1];
	static int next;
	char *text = texts[next++ & 1];
	snprintf(text, BYTES + 1, "%s", head);
	memset(text + strlen(text), 'x', BYTES - strlen(head) - 4);
	memcpy(text + BYTES - 4, "\r\n\r\n", 4);
	return text;
}

static double pairs(char **files, long count) {
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
		err(1, "socketpair");
	SSL *client = session(TLS_client_method(), NULL, ends[0]);
	SSL *server = session(TLS_server_method(), files, ends[1]);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	for (int turn = 0; !SSL_is_init_finished(client) || !SSL_is_init_finished(server); turn++) {
		if (turn == 100)
			errx(1, "no handshake");
		SSL_do_handshake(client);
		SSL_do_handshake(server);
	}
	const char *request = message("GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: ");
	const char *response = message("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: ");
	double times[BATCHES];
	long turns = count / BATCHES / 2 + 1;
	for (int batch = 0; batch < BATCHES; batch++) {
		double begun = now();
		for (long turn = 0; turn < turns; turn++) {
			move(client, server, request);
			move(server, client, response);
		}
		times[batch] = (now() - begun) / (turns * 2);
	}
	SSL_free(client);
	SSL_free(server);
	close(ends[0]);
	close(ends[1]);
	return median(times);
}

void emulated(void);
void stepped(void);
__asm__(".text\n.globl emulated\nemulated: push %rbp\npop %rbp\nret\n"
        ".globl stepped\nstepped: xor %eax, %eax\nret\n");

// Where in its file a function is.
static uint64_t offset(void *function, char *path) {
	FILE *maps = fopen("/proc/self/maps", "r");
	uint64_t start, end, at, place = (uint64_t)function;
	for (char line[4600]; maps && fgets(line, sizeof line, maps);)
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %4095s", &start, &end, &at, path) == 4 &&
		    place >= start && place < end) {
			fclose(maps);
			return place - start + at;
		}
	errx(1, "not mapped");
}

static int empty_program(void) {
	struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_KPROBE, .insn_cnt = 2};
	attr.insns = (uint64_t)code;
	attr.license = (uint64_t)"GPL";
	int program = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof attr);
	if (program < 0)
		err(1, "load a program");
	return program;
}

static int probe(void *function) {
	char path[4096];
	int type = 0;
	FILE *file = fopen("/sys/bus/event_source/devices/uprobe/type", "r");
	if (!file || fscanf(file, "%d", &type) != 1)
		errx(1, "no uprobes");
	fclose(file);
	struct perf_event_attr attr = {.size = sizeof attr, .type = type};
	attr.config2 = offset(function, path);
	attr.config1 = (uint64_t)path;
	int event = syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0);
	int program = empty_program();
	if (event < 0 || ioctl(event, PERF_EVENT_IOC_SET_BPF, program) ||
	    ioctl(event, PERF_EVENT_IOC_ENABLE, 0))
		err(1, "attach a uprobe");
	close(program);
	return event;
}

static double bare(void (*function)(void), int probed, long count) {
	int event = probed ? probe(function) : -1;
	double times[BATCHES];
	long turns = count / BATCHES + 1;
	for (int batch = 0; batch < BATCHES; batch++) {
		double begun = now();
		for (long turn = 0; turn < turns; turn++)
			function();
		times[batch] = (now() - begun) / turns;
	}
	if (probed)
		close(event);
	return median(times);
}

int main(int argc, char **argv) {
	if (argc != 3)
		errx(2, "pair CERTIFICATE KEY");
	char what[16];
	long count;
	while (scanf("%15s %ld", what, &count) == 2) {
		if (!strcmp(what, "pairs"))
			printf("%.1f\n", pairs(argv + 1, count));
		else
			printf("%.1f\n", bare(strcmp(what, "stepped") ? emulated : stepped, strcmp(what, "none"), count));
		fflush(stdout);
	}
}
