//! Every setting, once. A line here makes the flag, the variable, the key in the file, the line of
//! `config show`, the entry in docs/configuration.md and the comment in deploy/spantap.yaml.

use std::marker::PhantomData;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::form::{
    Choice, Choices, File, Form, Maybe, Number, Numbers, Ratio, Raw, Shape, Shown, Switch, Text,
    Texts, Time, Unit, shape_of,
};
use super::listen::Listen;
use super::networks::Networks;
use super::pairs::{Attributes, Headers};
use super::selection::Labels;
use super::setting::{Destination, Setting, Strategy};
use super::{CapturePath, Carrying, Presence, Protocol, QueryText};

/// `/// what it does` then `name = field as form, "flag" VALUE [standard variables] common|rare`.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+
       $name:literal = $($field:ident).+ as $form:expr, $flag:literal $value:literal
       [$($otel:literal),*] $level:ident;)+) => {
        /// The settings, in the order they are shown.
        pub static SETTINGS: &[Setting] = &[$(Setting {
            name: $name,
            flag: $flag,
            value: $value,
            otel: &[$($otel),*],
            common: settings!(@ $level),
            lines: &[$($doc),+],
            shape: shape_of(&$form),
            choices: || $form.choices(),
            set: |draft, raw| {
                draft.$($field).+ = $form.parse(raw)?;
                Ok(())
            },
            show: |draft| $form.show(&draft.$($field).+),
        },)+];
    };
    (@ common) => { true };
    (@ rare) => { false };
}

settings! {
    /// Process to trace, by id, with its later children; repeatable. Within one kind of selection
    /// any match is enough; every kind that is used must match; exclusions come last. With no
    /// selection everything is traced. What the file says of it takes effect without a restart when
    /// the file changes, but for `exclude_collector` and `exclude_instrumented`.
    "selection.pids" = config.selection.pids as Numbers("a process id", PhantomData::<u32>), "pid" "PID" [] common;
    /// Glob on the executable's name, its path, the process's own name or the whole command line;
    /// repeatable.
    "selection.commands" = config.selection.commands as Texts(Text::Glob), "command" "GLOB" [] common;
    /// Glob on the container's id (its first 12 digits are enough), or on its name in its pod; repeatable.
    "selection.containers" = config.selection.containers as Texts(Text::Glob), "container" "GLOB" [] common;
    /// Port of either end of a connection; repeatable. When the file changes, what it says of ports holds
    /// for connections that are new, or found, from then on.
    "selection.ports" = config.selection.ports as Numbers("a port from 1 to 65535", PhantomData::<u16>), "port" "PORT" [] common;
    /// Glob on the process's cgroup path; repeatable.
    "selection.cgroups" = config.selection.cgroups as Texts(Text::Glob), "cgroup" "GLOB" [] common;
    /// Glob on the namespace of the process's pod; repeatable. This and whatever else asks for pods takes
    /// Kubernetes to be asked (`kubernetes.enabled`). A process whose pod is not known yet is traced, and
    /// its spans wait for what it is.
    "selection.namespaces" = config.selection.namespaces as Texts(Text::Glob), "namespace" "GLOB" [] common;
    /// Glob on the pod's name; repeatable.
    "selection.pods" = config.selection.pods as Texts(Text::Glob), "pod" "GLOB" [] common;
    /// Label of the pod, as `key=glob`, or `key` for any value; several with commas between them must all
    /// match; repeatable, and one is enough. In variables `;` is between two such.
    "selection.pod_labels" = config.selection.pod_labels as Labels, "pod-label" "LABELS" [] common;
    /// Who made the pod, as `kind/name` or `name`, both globs: deployment/cart, cronjob/*, web; repeatable.
    /// Whatever made that counts as well: the Deployment behind a ReplicaSet, the CronJob behind a Job.
    "selection.workloads" = config.selection.workloads as Texts(Text::Glob), "workload" "GLOB" [] common;
    /// Glob on commands that are never traced; repeatable.
    "selection.exclude_commands" = config.selection.exclude_commands as Texts(Text::Glob), "exclude-command" "GLOB" [] common;
    /// Port of either end that is never traced; repeatable.
    "selection.exclude_ports" = config.selection.exclude_ports as Numbers("a port from 1 to 65535", PhantomData::<u16>), "exclude-port" "PORT" [] common;
    /// Glob on containers, by id or by name in their pods, that are never traced; repeatable.
    "selection.exclude_containers" = config.selection.exclude_containers as Texts(Text::Glob), "exclude-container" "GLOB" [] rare;
    /// Glob on namespaces whose pods are never traced, but for those that `selection.namespaces` names in the
    /// same words; repeatable. The list takes the place of the default one.
    "selection.exclude_namespaces" = config.selection.exclude_namespaces as Texts(Text::Glob), "exclude-namespace" "GLOB" [] common;
    /// Glob on names of pods that are never traced; repeatable.
    "selection.exclude_pods" = config.selection.exclude_pods as Texts(Text::Glob), "exclude-pod" "GLOB" [] rare;
    /// Label of pods that are never traced, written as for `selection.pod_labels`; repeatable.
    "selection.exclude_pod_labels" = config.selection.exclude_pod_labels as Labels, "exclude-pod-label" "LABELS" [] rare;
    /// Whose pods are never traced, written as for `selection.workloads`; repeatable.
    "selection.exclude_workloads" = config.selection.exclude_workloads as Texts(Text::Glob), "exclude-workload" "GLOB" [] rare;
    /// Whether only pods are traced whose annotation spantap/trace is "true". In any case "false" leaves a
    /// pod out, and "true" lets it in whatever is said of namespaces, pods, labels and workloads.
    "selection.annotated_only" = config.selection.annotated_only as Switch, "annotated-only" "BOOL" [] rare;
    /// Whether only processes in pods are traced.
    "selection.pods_only" = config.selection.pods_only as Switch, "pods-only" "BOOL" [] rare;
    /// Whether the receiver that spans are exported to is left out: connections from and to the
    /// addresses of its endpoint, the pods behind it where it is a Service, and requests that carry
    /// spantap's own spans. Each of its spans would make another export.
    "selection.exclude_collector" = config.selection.exclude_collector as Switch, "exclude-collector" "BOOL" [] rare;
    /// Whether a process that exports spans of its own by OTLP, as its OpenTelemetry SDK does, is left to
    /// tell of itself: from its first export on none are made for it, and whoever it calls becomes the
    /// child of what it says. Otherwise each of its calls is told twice. Exports that cannot be read (over
    /// TLS that is unread, to a port that is not selected) do not show.
    "selection.exclude_instrumented" = config.selection.exclude_instrumented as Switch, "exclude-instrumented" "BOOL" [] rare;

    /// Whether Kubernetes is asked for the pods of this node, so that spans say whose they are, and
    /// selection can ask for namespaces, labels and workloads: `on`, `off`, or `auto`, which is `on` in a
    /// pod (where KUBERNETES_SERVICE_HOST is set). Outside of one a kubeconfig says where it is (KUBECONFIG).
    "kubernetes.enabled" = config.kubernetes.enabled as Choice(PRESENCES), "kubernetes" "WHETHER" [] rare;
    /// Name of the node, as Kubernetes knows it (`spec.nodeName`); the host's name unless it is given.
    "kubernetes.node" = config.kubernetes.node as Maybe, "kubernetes-node" "NAME" ["K8S_NODE_NAME"] rare;
    /// Longest a span waits for what Kubernetes tells of its pod; past that it goes without and is
    /// counted (resource.pod_late).
    "kubernetes.wait" = config.kubernetes.wait as Time { min: Duration::ZERO, max: MINUTE }, "kubernetes-wait" "DURATION" [] rare;
    /// Glob on labels of pods that are told, as k8s.pod.label.KEY; repeatable. None unless it is given.
    "kubernetes.labels" = config.kubernetes.labels as Texts(Text::Glob), "kubernetes-label" "GLOB" [] rare;
    /// Glob on annotations of pods that are told, as k8s.pod.annotation.KEY; repeatable. None unless it is
    /// given. Those that begin with resource.opentelemetry.io/ are attributes of their own in any case.
    "kubernetes.annotations" = config.kubernetes.annotations as Texts(Text::Glob), "kubernetes-annotation" "GLOB" [] rare;
    /// Whether the labels app.kubernetes.io/instance, app.kubernetes.io/name and
    /// app.kubernetes.io/version of pods are service.name and service.version; else the name is that of
    /// the Deployment or whatever made the pod. An annotation goes before both.
    "kubernetes.service_labels" = config.kubernetes.service_labels as Switch, "kubernetes-service-labels" "BOOL" [] rare;
    /// Whether Services and their endpoints are watched in the whole cluster, so that a client's span
    /// names whom it calls (service.peer.name).
    "kubernetes.services" = config.kubernetes.services as Switch, "kubernetes-services" "BOOL" [] rare;

    /// Where spans go; repeatable. `otlp` sends them to `export.otlp.endpoint`, and to this machine
    /// where that is unset; `stdout` prints a line per span for people, `json` an object per span,
    /// `none` makes spans and drops them. When unset: `otlp` if an endpoint is set, else `stdout`.
    "export.to" = destinations as Choices(Choice(DESTINATIONS)), "export" "EXPORTER" ["OTEL_TRACES_EXPORTER"] common;
    /// Spans that wait for an exporter at most; past that the oldest is dropped and counted.
    "export.queue_size" = config.export.queue_size as Number { min: 1, max: 1 << 24, unit: Unit::Count }, "queue-size" "N" ["OTEL_BSP_MAX_QUEUE_SIZE"] rare;
    /// Spans sent at once at most; never more than the queue holds.
    "export.batch_size" = config.export.batch_size as Number { min: 1, max: 1 << 20, unit: Unit::Count }, "batch-size" "N" ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] rare;
    /// Longest a span waits for company; a lone span leaves within a second all the same.
    "export.schedule_delay" = config.export.schedule_delay as Time { min: Duration::ZERO, max: DAY }, "schedule-delay" "DURATION" ["OTEL_BSP_SCHEDULE_DELAY"] rare;
    /// Longest a batch is tried again while others wait behind it. Then it goes to their end, and is
    /// dropped only when the queue is full and it is the oldest.
    "export.export_timeout" = config.export.export_timeout as Time { min: MILLISECOND, max: DAY }, "export-timeout" "DURATION" ["OTEL_BSP_EXPORT_TIMEOUT"] rare;
    /// Make no spans at all (the standard switch): the agent starts, attaches nothing and stays idle.
    "export.disabled" = config.disabled as Switch, "disabled" "BOOL" ["OTEL_SDK_DISABLED"] rare;
    /// Base URL of the OTLP receiver, such as http://localhost:4318; over HTTP `/v1/traces` is
    /// added. Which of the two is spoken is said by `export.otlp.protocol`, not by the port: for
    /// http://localhost:4317 that is `grpc`. When unset and `otlp` is asked for: port 4318 of
    /// localhost over HTTP, 4317 over gRPC.
    "export.otlp.endpoint" = otlp.endpoint as Endpoint, "otlp-endpoint" "URL" ["OTEL_EXPORTER_OTLP_ENDPOINT"] common;
    /// URL of the OTLP receiver for traces, used as it is; goes before the base URL.
    "export.otlp.traces_endpoint" = otlp.traces_endpoint as Endpoint, "otlp-traces-endpoint" "URL" ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] rare;
    /// OTLP's transport: HTTP with binary protocol buffers (receivers listen on port 4318), or gRPC
    /// (4317).
    "export.otlp.protocol" = otlp.protocol as Choice(PROTOCOLS), "otlp-protocol" "PROTOCOL" ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] common;
    /// Header sent with every OTLP request, as name=value; repeatable. In variables:
    /// comma-separated, percent-encoded.
    "export.otlp.headers" = otlp.headers as Headers, "otlp-header" "NAME=VALUE" ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"] rare;
    /// Compression of OTLP requests.
    "export.otlp.compression" = otlp.gzip as Choice(COMPRESSIONS), "otlp-compression" "METHOD" ["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION"] rare;
    /// Longest one attempt to send a batch may take; how long it is tried again is export_timeout's.
    "export.otlp.timeout" = otlp.timeout as Time { min: MILLISECOND, max: DAY }, "otlp-timeout" "DURATION" ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"] rare;
    /// Plain text to a gRPC endpoint that has no scheme; a scheme always decides by itself.
    "export.otlp.insecure" = otlp.insecure as Switch, "otlp-insecure" "BOOL" ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"] rare;
    /// PEM file with the certificates to trust instead of the system's.
    "export.otlp.certificate" = otlp.certificate as File, "otlp-certificate" "FILE" ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"] rare;
    /// PEM file with the client's certificate (mTLS); needs the key too.
    "export.otlp.client_certificate" = otlp.client_certificate as File, "otlp-client-certificate" "FILE" ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] rare;
    /// PEM file with the client's key (mTLS).
    "export.otlp.client_key" = otlp.client_key as File, "otlp-client-key" "FILE" ["OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_KEY"] rare;

    /// Where the agent's own counters go, as metrics: `none`, or `otlp` to where spans go with
    /// `/v1/metrics`. The variables of `export.otlp` apply to metrics too, where OTEL_EXPORTER_OTLP_METRICS_*
    /// goes before OTEL_EXPORTER_OTLP_* as OTEL_EXPORTER_OTLP_TRACES_* does for spans. When unset:
    /// `otlp` if there is an endpoint for metrics, else `none`, as not every receiver of traces takes
    /// metrics.
    "export.metrics.to" = metrics.wanted as Choice(METRICS), "metrics" "EXPORTER" ["OTEL_METRICS_EXPORTER"] rare;
    /// URL of the OTLP receiver for metrics, used as it is; goes before the base URL.
    "export.metrics.endpoint" = metrics.endpoint as Endpoint, "metrics-endpoint" "URL" ["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] rare;
    /// How often counters are sent.
    "export.metrics.interval" = metrics.interval as Time { min: Duration::from_millis(100), max: DAY }, "metrics-interval" "DURATION" ["OTEL_METRIC_EXPORT_INTERVAL"] rare;

    /// Address and port at which `spantap agent` says how it is, over HTTP: /healthz (its threads get on), /readyz
    /// (everything is attached, and spans find room on their way out) and /metrics (all counters, for Prometheus). Any host that
    /// reaches the port may ask: 127.0.0.1 is for this one, 0.0.0.0 or [::] for all. Nothing listens
    /// unless it is given; of `watch` and `run`, which may be used beside an agent, only the flag counts.
    "serve.listen" = config.serve.listen as Listen, "listen" "ADDRESS:PORT" [] rare;

    /// Which traces are kept. The parentbased ones follow the caller's decision where there is one.
    "sampling.sampler" = sampler as Choice(SAMPLERS), "sampler" "SAMPLER" ["OTEL_TRACES_SAMPLER"] common;
    /// The sampler's argument: the share of traces kept by the ratio samplers, 0 to 1.
    "sampling.ratio" = ratio as Ratio, "sampler-ratio" "RATIO" ["OTEL_TRACES_SAMPLER_ARG"] common;

    /// Which kernel hooks see the traffic: `socket` (kernel 6.3 and later), `syscall` (5.10 and
    /// later), or the best there is.
    "capture.path" = config.capture.path as Choice(CAPTURE_PATHS), "capture-path" "PATH" [] rare;
    /// File with the types of exactly the running kernel (BTF, as BTFHub has it, unpacked), for
    /// kernels without /sys/kernel/btf/vmlinux. With it the syscall path is used.
    "capture.btf" = config.capture.btf as File, "btf" "FILE" [] rare;
    /// Whether what TLS protects is read, by probes in the libraries that do it. Without, encrypted
    /// connections are told of and not read.
    "capture.tls" = config.capture.tls as Switch, "tls" "BOOL" [] rare;
    /// Bytes copied of one message; past that only its length is followed.
    "capture.message_bytes" = config.capture.message_bytes as Number { min: 1 << 10, max: 1 << 24, unit: Unit::Bytes }, "message-bytes" "BYTES" [] rare;
    /// Memory of all ring buffers together; a power of two.
    "capture.ring_bytes" = config.capture.ring_bytes as Number { min: 1 << 16, max: 1 << 30, unit: Unit::PowerOfTwo }, "ring-bytes" "BYTES" [] rare;
    /// Longest a record waits in a ring buffer.
    "capture.drain" = config.capture.drain as Time { min: MILLISECOND, max: Duration::from_secs(1) }, "drain" "DURATION" [] rare;
    /// Connections followed at once; past that the least recently used is given up and counted.
    "capture.max_connections" = config.capture.max_connections as Number { min: 16, max: 1 << 24, unit: Unit::Count }, "max-connections" "N" [] rare;
    /// An exchange without a byte for this long has timed out.
    "capture.exchange_timeout" = config.capture.exchange_timeout as Time { min: Duration::from_secs(1), max: DAY }, "exchange-timeout" "DURATION" [] rare;
    /// Bytes of an unknown connection that are looked at before it is left alone.
    "capture.unknown_bytes" = config.capture.unknown_bytes as Number { min: 64, max: 1 << 24, unit: Unit::Bytes }, "unknown-bytes" "BYTES" [] rare;

    /// Method that goes by its own name, case-sensitive; repeatable. The list takes the place of the
    /// default one; any other method is `_OTHER`.
    "http.known_methods" = config.http.known_methods as Texts(Text::Word), "known-method" "METHOD" ["OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS"] rare;
    /// Request header recorded as http.request.header.NAME; repeatable. Of the standard variables
    /// all that are set count together.
    "http.request_headers" = config.http.request_headers as Texts(Text::Name), "request-header" "NAME" ["OTEL_INSTRUMENTATION_HTTP_SERVER_CAPTURE_REQUEST_HEADERS", "OTEL_INSTRUMENTATION_HTTP_CLIENT_CAPTURE_REQUEST_HEADERS"] rare;
    /// Response header recorded as http.response.header.NAME; repeatable. Of the standard variables
    /// all that are set count together.
    "http.response_headers" = config.http.response_headers as Texts(Text::Name), "response-header" "NAME" ["OTEL_INSTRUMENTATION_HTTP_SERVER_CAPTURE_RESPONSE_HEADERS", "OTEL_INSTRUMENTATION_HTTP_CLIENT_CAPTURE_RESPONSE_HEADERS"] rare;

    /// Whether heads and the beginnings of bodies are looked at for what is spoken over HTTP: GraphQL,
    /// JSON-RPC, calls of language models, server-sent events, S3, Elasticsearch; not WebSockets.
    /// Names, codes and numbers are kept of them, never what was asked or answered.
    "http.applications" = config.http.applications as Switch, "http-applications" "BOOL" [] rare;

    /// What is said of a query's text: `redacted` puts `?` in place of its literals, `full` shows it
    /// as it was sent, `off` leaves it out.
    "database.query_text" = config.database.query_text as Choice(QUERY_TEXTS), "query-text" "FORM" [] rare;
    /// Length of a query's text at most.
    "database.query_length" = config.database.query_length as Number { min: 16, max: 1 << 16, unit: Unit::Bytes }, "query-length" "BYTES" [] rare;

    /// Route tried on paths before the built-in rules, such as /users/{id}/**; repeatable. `{name}`
    /// and `*` stand for one segment, a last `**` for the rest.
    "route.patterns" = config.route.patterns as Texts(Text::Pattern), "route" "PATTERN" [] rare;
    /// Whether numbers, UUIDs, hashes and the like in paths are recognised and left out of routes.
    "route.heuristics" = config.route.heuristics as Switch, "route-heuristics" "BOOL" [] rare;
    /// Distinct routes kept per service; past that spans have none.
    "route.max_per_service" = config.route.max_per_service as Number { min: 0, max: 1 << 20, unit: Unit::Count }, "max-routes" "N" [] rare;

    /// Formats of trace context that are read, in order; repeatable. Baggage is never touched, so
    /// naming it changes nothing.
    "propagation.extract" = config.propagation.extract as Propagators, "propagator" "FORMAT" ["OTEL_PROPAGATORS"] rare;
    /// Network whose callers' trace context is carried on, such as 10.0.0.0/8; repeatable. The list takes
    /// the place of the default one, which has all private, link-local and loopback addresses; `none`
    /// trusts nobody, 0.0.0.0/0 and ::/0 everybody. A request from elsewhere begins a trace of its own,
    /// with a link to what it came with. It is the last hop's address that counts, a proxy's where there
    /// is one. Who is on this host is always trusted.
    "propagation.trusted" = config.propagation.trusted as Networks, "trusted-network" "CIDR" [] rare;
    /// Whether a call made by the thread that serves a request becomes that request's child, where
    /// the thread serves one at a time; in Ruby, of the request that the thread answers next.
    "propagation.thread" = config.propagation.thread as Switch, "link-threads" "BOOL" [] rare;
    /// Whether a call that a goroutine asks for becomes the child of the request that it serves, or for
    /// which it was started. For net/http, whose connections write for the goroutines, and for who starts
    /// whom that takes two probes in each Go program.
    "propagation.goroutine" = config.propagation.goroutine as Switch, "link-goroutines" "BOOL" [] rare;
    /// Whether a request that a proxy hands on (nginx, HAProxy, Envoy, …) becomes the child of the one
    /// that it was asked, where that is the only one with its method, path, query and end-to-end headers.
    "propagation.forwarded" = config.propagation.forwarded as Switch, "link-forwarded" "BOOL" [] rare;
    /// Whether a call that a task of Python's asyncio makes becomes the child of the request that it, or
    /// one that started it, works for; and one that a thread of a pool makes (concurrent.futures) the child of the
    /// request for which its work was given to the pool. That takes probes in CPython, where contexts and locks are
    /// made, and in uvloop, where it calls back. Without, no call of Python has a parent, but those of Apache and of
    /// `gunicorn -k sync` or `gunicorn -k gthread`: a thread may be an event loop's.
    "propagation.asyncio" = config.propagation.asyncio as Switch, "link-asyncio" "BOOL" [] rare;
    /// Whether a call that Node.js makes becomes the child of the request that began the turn of its event
    /// loop, or an earlier one in which was asked for what this one is about. That takes a probe where
    /// native code calls back.
    "propagation.node" = config.propagation.node as Switch, "link-node" "BOOL" [] rare;
    /// Whether a call that a thread of a pool makes in a JVM becomes the child of the request whose thread
    /// made the task that it runs: a java.util.concurrent.FutureTask, as ExecutorService.submit makes. That
    /// takes Linux 6.3, and no probe in the program.
    "propagation.jvm" = config.propagation.jvm as Switch, "link-jvm" "BOOL" [] rare;
    /// Whether a call of which none of these says whose it is becomes the child of the request that it is
    /// likely to be for, by when it was made and answered, where that was learned and is right in 99 of 100.
    /// Such spans say `inferred` and how likely it is. What went to `propagation.networks` has left in a trace
    /// of its own by then, unless `propagation.mode` is `off`: it is linked to that request instead. Off
    /// unless it is given.
    "propagation.inferred" = config.propagation.inferred as Switch, "link-inferred" "BOOL" [] rare;

    /// How a trace is carried on to another host by a program that does not do so itself: `option` puts its
    /// id into a TCP option of the segment with which a request begins, which hosts without spantap ignore,
    /// and reads what comes so; `header` does that too, and writes a `traceparent` into the first request
    /// of each connection of HTTP/1 to `propagation.headers`, if its socket does not block, for programs
    /// that only an SDK traces; `off` does nothing, and traces end at their host's border. Where the kernel
    /// cannot (before Linux 6.3, or without CAP_NET_ADMIN or cgroups version 2) it is said, and is as `off`.
    "propagation.mode" = config.propagation.mode as Choice(CARRYING), "propagation" "MODE" [] common;
    /// Network to whose addresses traces are carried, such as 10.0.0.0/8; repeatable. The list takes the
    /// place of the default one, which has all private and loopback addresses; at most 32. What
    /// comes so is believed from `propagation.trusted` alone.
    "propagation.networks" = config.propagation.networks as Networks, "carry-to" "CIDR" [] rare;
    /// Network, within `propagation.networks`, to whose addresses a `traceparent` is written where
    /// `propagation.mode` is `header`; repeatable; at most 32. None unless it is given.
    "propagation.headers" = config.propagation.headers as Networks, "header-to" "CIDR" [] rare;

    /// Whether secrets are replaced before anything leaves: credentials in query strings and headers,
    /// in command lines where they are told, GraphQL's documents and variables in URLs, tokens, e-mail
    /// addresses, card numbers.
    "redaction.enabled" = config.redaction.enabled as Switch, "redact" "BOOL" [] rare;
    /// Query parameter or command-line option whose value is replaced, besides the built-in ones;
    /// repeatable.
    "redaction.query_keys" = config.redaction.query_keys as Texts(Text::Name), "redact-query" "NAME" [] rare;
    /// Header whose value is replaced, besides the built-in ones; repeatable.
    "redaction.headers" = config.redaction.headers as Texts(Text::Name), "redact-header" "NAME" [] rare;
    /// Whether the arguments of programs are told as process.command_args, with what looks like a
    /// secret replaced by rules that cannot know every program's options.
    "redaction.command_args" = config.redaction.command_args as Switch, "command-args" "BOOL" [] rare;

    /// Attributes on one span at most.
    "limits.attribute_count" = config.limits.attribute_count as Number { min: 0, max: 1 << 20, unit: Unit::Count }, "attribute-count" "N" ["OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"] rare;
    /// Length of any text attribute of a span at most.
    "limits.attribute_length" = config.limits.attribute_length as Number { min: 0, max: usize::MAX, unit: Unit::Bytes }, "attribute-length" "BYTES" ["OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"] rare;
    /// Length of free text on spans at most: URLs, user agents, headers, hosts. Resources, command
    /// lines among them, have limits of their own, as the specification exempts them from these.
    "limits.text_length" = config.limits.text_length as Number { min: 16, max: usize::MAX, unit: Unit::Bytes }, "text-length" "BYTES" [] rare;
    /// Events on one span at most.
    "limits.event_count" = config.limits.event_count as Number { min: 0, max: 1 << 20, unit: Unit::Count }, "event-count" "N" ["OTEL_SPAN_EVENT_COUNT_LIMIT"] rare;
    /// Share of the machine's CPUs, 0 to 1, that reading and linking claim while others want them all;
    /// what is idle they take besides. Past that records wait, and those the ring has no room for are
    /// lost and counted. 0 claims nothing: only what is idle is taken, so that on a machine without
    /// idle CPUs next to nothing is read. 1 competes with programs as they do with each other.
    "limits.cpu_share" = config.limits.cpu_share as Ratio, "cpu-share" "SHARE" [] rare;
    /// Spans per second of one service at most; 0 for no limit. What is over is dropped and counted.
    "limits.spans_per_second" = config.limits.spans_per_second as Number { min: 0, max: u32::MAX, unit: Unit::Count }, "spans-per-second" "N" [] rare;

    /// Attribute added to the resource of every span, as name=value; repeatable. In variables:
    /// comma-separated, percent-encoded.
    "resource" = config.resource as Attributes, "resource" "NAME=VALUE" ["OTEL_RESOURCE_ATTRIBUTES"] rare;
}

/// `export.to`; `console` is OpenTelemetry's name for stdout.
const DESTINATIONS: &[(&str, Destination)] = &[
    ("otlp", Destination::Otlp),
    ("stdout", Destination::Stdout),
    ("json", Destination::Json),
    ("none", Destination::None),
    ("console", Destination::Stdout),
];

const PRESENCES: &[(&str, Presence)] = &[
    ("auto", Presence::Auto),
    ("on", Presence::On),
    ("off", Presence::Off),
];

const METRICS: &[(&str, bool)] = &[("none", false), ("otlp", true)];

const PROTOCOLS: &[(&str, Protocol)] = &[
    ("http/protobuf", Protocol::HttpProtobuf),
    ("grpc", Protocol::Grpc),
];

const COMPRESSIONS: &[(&str, bool)] = &[("none", false), ("gzip", true)];

const QUERY_TEXTS: &[(&str, QueryText)] = &[
    ("redacted", QueryText::Redacted),
    ("full", QueryText::Full),
    ("off", QueryText::Off),
];

const SAMPLERS: &[(&str, Strategy)] = &[
    ("always_on", Strategy::AlwaysOn),
    ("always_off", Strategy::AlwaysOff),
    ("traceidratio", Strategy::Ratio),
    ("parentbased_always_on", Strategy::ParentOn),
    ("parentbased_always_off", Strategy::ParentOff),
    ("parentbased_traceidratio", Strategy::ParentRatio),
];

const CARRYING: &[(&str, Carrying)] = &[
    ("off", Carrying::Off),
    ("option", Carrying::Option),
    ("header", Carrying::Header),
];

const CAPTURE_PATHS: &[(&str, CapturePath)] = &[
    ("auto", CapturePath::Auto),
    ("socket", CapturePath::Socket),
    ("syscall", CapturePath::Syscall),
];

const MILLISECOND: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// The formats of trace context; `none` reads nothing and `baggage` is known but changes nothing.
struct Propagators;

impl Propagators {
    const KNOWN: Choices<&'static str> = Choices(Choice(&[
        ("tracecontext", "tracecontext"),
        ("b3", "b3"),
        ("b3multi", "b3multi"),
        ("baggage", "baggage"),
        ("none", "none"),
    ]));
}

impl Form for Propagators {
    type Value = Vec<String>;
    const SHAPE: Shape = Shape::List;

    fn parse(&self, raw: &Raw) -> Result<Vec<String>, String> {
        let known = Self::KNOWN.parse(raw)?.into_iter();
        let read = known.filter(|name| !matches!(*name, "baggage" | "none"));
        Ok(read.map(str::to_owned).collect())
    }

    fn show(&self, value: &Vec<String>) -> Shown {
        let names = match value.is_empty() {
            true => vec!["none".to_owned()],
            false => value.clone(),
        };
        Shown::List(names)
    }

    fn choices(&self) -> Vec<&'static str> {
        Self::KNOWN.choices()
    }
}
