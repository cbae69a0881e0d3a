/* cmd_ask.c - cairn ask: one turn over a repository. */
#include "runtime/screen.h"
#include "runtime/signals.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: cairn ask [-C REPO] [-c | -s SESSION] TEXT\n"
    "       cairn ask [-C REPO] [-c | -s SESSION] -  the question comes from stdin\n"
    "\n"
    "examples:\n"
    "  cairn ask \"where is main defined?\"        a new session on the repository here\n"
    "  cairn ask -c \"and what does it do?\"       the last session here goes on\n"
    "  cairn ask --evidence TEXT                 and which lines the answer was read from\n"
    "  cairn ask -C ../other --budget 8192 TEXT  another repository, a smaller view\n"
    "  make 2>&1 | cairn ask -c -                a question, or a log, from a pipe\n"
    "  cairn ask --json TEXT | tail -1           answer, bill and tools as one object\n"
    "  cairn ask -c --pin \"and before that?\"     whatever the repository does from now on\n"
    "  cairn ask -c --verbose TEXT               why each document had to be prefilled\n"
    "\n"
    "The answer goes to stdout as it is made; progress, tool calls and the cost line go to\n"
    "stderr.  Ctrl-C stops the answer and keeps what is done; exit status 130.\n"
    "\n"
    "Before each turn the view is brought up to date with the working tree, and the price is\n"
    "said before it is paid.  --pin keeps the view as it was behind the last turn, for all turns\n"
    "to come, until --unpin; tools see the working tree all the same.  A session whose\n"
    "repository has moved goes on with -C and -s, and stays there.\n"
    "\n"
    "--evidence: shares of the attention of the answer's tokens, as the model's index has it, by\n"
    "lines of files, the largest first.  Most of it rests on the headers of documents whatever is\n"
    "asked, so a share of a few percent is much.\n";

enum { QUESTION_BYTES_MAX = 1 << 20 }; // from stdin; the conversation's limit is in tokens

/* All of stdin, without the line ends behind it. */
static cn_err read_question(cn_buf *buf, cn_diag *diag) {
    char    part[4096];
    ssize_t n;
    while ((n = read(STDIN_FILENO, part, sizeof(part))) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return CN_FAIL(diag, CN_EIO, "stdin: %s", strerror(errno));
        cn_buf_put(buf, part, (size_t)n);
        if (buf->bytes > QUESTION_BYTES_MAX)
            return CN_FAIL(diag, CN_ETOOBIG, "a question of more than %d bytes",
                           (int)QUESTION_BYTES_MAX);
        if (buf->err) return CN_FAIL(diag, buf->err, "no memory for a question");
    }
    while (buf->bytes && buf->data[buf->bytes - 1] == '\n') buf->bytes--;
    return CN_OK;
}

static int run(const cn_cli *cli, const cn_session_opts *where, const cn_question *what) {
    cn_diag     diag = {0};
    cn_host    *host = NULL;
    cn_session *s = NULL;
    cn_err      err = cn_cli_open_host(cli, &host, &diag);
    if (!err) err = cn_session_open(&s, host, where, &diag);
    if (!err) cn_screen_interrupted(s);
    const int status = err ? cn_cli_fail(cli, err, &diag) : cn_screen_ask(cli, s, what);
    cn_session_close(s);
    cn_host_close(host);
    return status;
}

int cn_cmd_ask(int argc, char **argv) {
    cn_cli          cli = {.command = "ask"};
    cn_diag         diag = {0};
    cn_buf          input = {0};
    cn_talk         talk = {0};
    cn_session_opts where;
    bool            no_daemon = false, with_evidence = false;
    cn_option       options[CN_TALK_OPTIONS + 3] = {0};
    cn_talk_options(&talk, "session", 's', options);
    options[CN_TALK_OPTIONS] = (cn_option){
        .name = "no-daemon", .flag = &no_daemon, .help = "in this process (the only way yet)"};
    options[CN_TALK_OPTIONS + 1] = (cn_option){.name = "evidence",
                                               .flag = &with_evidence,
                                               .help = "say which lines the answer was read from"};
    const int operands = cn_cli_parse(&cli, argc, argv, usage, options);
    if (operands != 1) return cn_cli_usage(&cli, "want one TEXT, got %d", operands);
    if (cn_talk_where(&talk, cli.conf, &where))
        return cn_cli_usage(&cli, "-c and -s " CN_TALK_EXCLUDES);
    cn_question what = {
        .text = argv[0],
        .bytes = strlen(argv[0]),
        .output_tokens_max = talk.output_tokens_max,
        .is_resumed = talk.is_continued || talk.id,
        .is_verbose = talk.is_verbose,
        .with_evidence = with_evidence,
    };
    if (strcmp(argv[0], "-") == 0) {
        const cn_err err = read_question(&input, &diag);
        what.text = cn_buf_str(&input);
        what.bytes = input.bytes;
        if (err) {
            cn_buf_release(&input);
            return cn_cli_fail(&cli, err, &diag);
        }
    }
    cn_signals_catch(true);
    const int status =
        what.bytes ? run(&cli, &where, &what) : cn_cli_usage(&cli, "the question is empty");
    cn_buf_release(&input);
    return cn_signals_leave(status);
}
