//! What the help of each command says behind its flags: examples, and exit codes.

/// What every command's help and manual page say of exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed while running
  2    wrong usage or configuration
  3    a privilege or a kernel feature is missing; the message says which
  4    nothing was shown (watch --fail-empty)
  5    something was lost (watch --strict)
  130  interrupted (watch), after the summary
  run exits with the command's own code, or 128 + the signal that ended it";

/// Of all.
pub const MAIN_HELP: &str = "\
Examples:
  Every request on this machine, live:
      sudo spantap watch
  Only slow or failed ones of one service:
      sudo spantap watch --command 'nginx*' --slow 20ms
      sudo spantap watch --status 5xx
  As a daemon, to an OpenTelemetry Collector:
      sudo spantap agent --otlp-endpoint http://localhost:4318
  What one command sends and receives:
      sudo spantap run -- curl -s http://localhost:8080/
  Who would be traced, and who not, and why:
      sudo spantap list
  What this machine allows:
      spantap doctor

Settings come from flags, then environment (SPANTAP_* and the standard OTEL_*), then the file.

Exit codes:
  0 done, 1 failed, 2 usage or configuration, 3 privilege or kernel feature missing;
  the commands' own are in their help.";

/// `spantap agent`.
pub const AGENT_HELP: &str = "\
Examples:
  To the terminal, with no backend:
      sudo spantap agent
  To a Collector by OTLP, over HTTP or gRPC:
      sudo spantap agent --otlp-endpoint http://collector:4318
      sudo spantap agent --otlp-endpoint http://collector:4317 --otlp-protocol grpc
  Two services and nothing else, a tenth of the traces:
      sudo spantap agent --command nginx --command 'python* *app.py*' \\
          --sampler parentbased_traceidratio --sampler-ratio 0.1
  With a file, and a look at what it comes to:
      spantap config check --config spantap.yaml
      sudo spantap agent --config spantap.yaml

When the file changes, what it says of who is traced takes effect at once.

SIGINT and SIGTERM send what is queued, detach everything and exit with 0; a second one, half a
second later or more, exits at once.

Exit codes:
  0 stopped, 1 failed while running, 2 wrong usage or configuration,
  3 a privilege or a kernel feature is missing; the message says which.";

/// `spantap watch`.
pub const WATCH_HELP: &str = "\
Examples:
  Every exchange, from both of its sides:
      sudo spantap watch
  What a service answers slowly:
      sudo spantap watch --side server --slow 20ms --command gunicorn
  The first ten failures under /api, as JSON:
      sudo spantap watch --status 5xx --path '/api/**' --limit 10 -o json
  One pod, from the agent that runs on its node:
      kubectl exec -n spantap ds/spantap -- spantap watch -n shop --pod 'cart-*'
  In a script: fail when nothing came or anything was lost:
      sudo timeout --preserve-status -s INT 10 spantap watch --limit 1 --fail-empty --strict

Lines go to standard output; the summary, with what was filtered and lost, to standard error.
Nothing is exported unless --export asks for it.

Exit codes:
  0 done, 1 failed while running, 2 wrong usage or configuration, 3 a privilege or a kernel
  feature is missing, 4 nothing was shown (--fail-empty), 5 something was lost (--strict),
  130 interrupted.";

/// `spantap list`.
pub const LIST_HELP: &str = "\
Examples:
  Who is traced by an agent with this configuration, and who in pods is not:
      sudo spantap list
  Is that program traced, and if not, why?
      sudo spantap list --all | grep nginx
  What would be traced by a selection, before it is used:
      sudo spantap list --command 'python*' --exclude-command '*test*'
  On a node of a cluster, as the agent there sees it:
      kubectl exec -n spantap ds/spantap -- spantap list -n shop
  For scripts:
      sudo spantap list -o json | jq -r 'select(.traced) | .pid'

It reads /proc and the configuration and, where it is to be asked, Kubernetes, once; an agent that runs is
not asked. Ports are those that a process listens on; selected by them are connections, not processes.

Exit codes:
  0 done, 1 failed, or Kubernetes was asked and did not tell, 2 wrong usage or configuration.";

/// `spantap run`.
pub const RUN_HELP: &str = "\
Examples:
  What does this program talk to?
      sudo spantap run -- curl -sL http://example.com/
  A server and its workers, as the user it belongs to, spans to a file as JSON:
      sudo spantap run -o json --to spans.jsonl -- \\
          setpriv --reuid www-data --regid www-data --init-groups gunicorn app:app
  As yourself (sudo -u keeps root's environment out, too):
      sudo spantap run -- sudo -u \"$USER\" npm start

The command runs as the user spantap runs as, with its rights: as root, unless it is told otherwise.
It keeps its standard input, output and error; lines go to standard error, or to --to.
With an OTLP endpoint configured, spans go there instead.

Exit codes:
  the command's own, or 128 + the signal that ended it; 126 when it cannot be run, 127 when it
  is not found; 1, 2 and 3 when spantap itself fails, as for the other commands.";

/// `spantap doctor`.
pub const DOCTOR_HELP: &str = "\
Examples:
  For people, and for scripts:
      sudo spantap doctor
      sudo spantap doctor -o json | jq '.rows[] | select(.state != \"ok\")'
  With the settings the agent would have:
      sudo spantap doctor --config spantap.yaml

Exit codes:
  0 spans can be made here (perhaps with less detail), 3 they cannot; the rows say why.";

/// `spantap config`.
pub const CONFIG_HELP: &str = "\
Examples:
  What would the agent use, and where does each value come from?
      spantap config show --config spantap.yaml
  Is a file right?
      spantap config check --config spantap.yaml
  A file to begin with:
      spantap config show > spantap.yaml

Exit codes:
  0 right, 2 wrong; the message names file, line and key.";

/// `spantap completions`.
pub const COMPLETIONS_HELP: &str = "\
Examples:
  bash: spantap completions bash > /etc/bash_completion.d/spantap
  zsh:  spantap completions zsh > \"${fpath[1]}/_spantap\"
  fish: spantap completions fish > ~/.config/fish/completions/spantap.fish";

/// `spantap man`.
pub const MAN_HELP: &str = "\
Examples:
  spantap man | man -l -
  sudo spantap man --dir /usr/local/share/man/man1";
