package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strconv"
)

// trusting believes any leaf.
var trusting = &tls.Config{InsecureSkipVerify: true}

// oldOnly leaves no protocol but HTTP/1.1 over TLS.
var oldOnly = map[string]func(string, *tls.Conn) http.RoundTripper{}

// a wrapped connection is of a type that only this program knows.
type wrapped struct{ net.Conn }

func wrap(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := plain(ctx, network, address, nil)
	return wrapped{conn}, err
}

// reused makes half of the calls by net/http, and half over connections of its own, which come to be
// where the others were in memory.
func reused(base string, dial func(ctx context.Context) (net.Conn, error)) caller {
	closing := &http.Transport{DisableKeepAlives: true, TLSClientConfig: trusting, TLSNextProto: oldOnly}
	usual := by(closing, base)
	return func(ctx context.Context, id string) error {
		runtime.GC()
		if !odd(id) {
			return usual(ctx, id)
		}
		conn, err := dial(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /leaf/%s HTTP/1.1\r\nHost: leaf\r\nConnection: close\r\n\r\n", call(id, 0))
		_, err = io.Copy(io.Discard, conn)
		return err
	}
}

// dialing is the leaf's connections without net/http, and over TLS.
func dialing(leaf string) (tcp, secret func(ctx context.Context) (net.Conn, error)) {
	tcp = func(ctx context.Context) (net.Conn, error) {
		return plain(ctx, "tcp", "127.0.0.1:"+leaf, nil)
	}
	secret = func(ctx context.Context) (net.Conn, error) {
		conn, err := tcp(ctx)
		return tls.Client(conn, trusting), err
	}
	return tcp, secret
}

// nested asks the front itself, as another request: that one calls the leaf.
func nested(itself string) caller {
	return func(_ context.Context, id string) error {
		return ask(http.DefaultClient, itself+"/nested/"+id+"again/"+call(id, 0))
	}
}

// timeout gives up half of its calls before the leaf answers.
func timeout(leaf string) caller {
	impatient := &http.Client{Timeout: slow / 4}
	return func(_ context.Context, id string) error {
		if !odd(id) {
			return ask(http.DefaultClient, leaf+"/leaf/"+call(id, 0))
		}
		var late net.Error
		err := ask(impatient, leaf+"/slow/"+call(id, 0))
		if errors.As(err, &late) && late.Timeout() {
			return nil
		}
		return fmt.Errorf("not late: %w", err)
	}
}

// post sends on the body it was sent, and answers with the one it is answered with.
func post(base string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		to := base + call(r.PathValue("id"), 0)
		answer, err := http.Post(to, "application/octet-stream", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(w, answer.Body)
		return err
	}
}

// flushed calls before it answers, and again when all of the answer is sent: the next request may be
// waiting by then.
func flushed(made caller, base string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := r.PathValue("id")
		w.Header().Set("Content-Length", "6")
		if err := made.answer(w, r); err != nil {
			return err
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return err
		}
		return ask(http.DefaultClient, base+call(id, 1))
	}
}

// proxy hands the request on.
func proxy(base string) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		to, err := url.Parse(base + call(r.In.PathValue("id"), 0))
		must(err)
		r.Out.URL = to
	}}
}

// hijack calls before it answers, and again when its connection is no longer HTTP's.
func hijack(base string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		id := r.PathValue("id")
		conn, reader, err := http.NewResponseController(w).Hijack()
		must(err)
		defer conn.Close()
		must(ask(http.DefaultClient, base+call(id, 0)))
		_, err = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: bytes\r\n\r\n")
		must(err)
		said := make([]byte, len(raw))
		_, err = io.ReadFull(reader, said)
		must(err)
		must(ask(http.DefaultClient, base+call(id, 1)))
		_, err = conn.Write(said)
		return err
	}
}

func odd(id string) bool {
	number, err := strconv.Atoi(id)
	must(err)
	return number%2 == 1
}
