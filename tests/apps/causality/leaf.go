package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"
)

// slow is how long the leaf takes for what begins with /slow/.
const slow = 400 * time.Millisecond

// leaf answers everything with a word, or with the body it was sent; by HTTP/1.1 and by HTTP/2
// without TLS, or, with a certificate and its key, by both over TLS.
func leaf(port string, secret []string) error {
	server := http.Server{Addr: "127.0.0.1:" + port, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	calls := answering(func(context.Context, string) error { return nil })
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == "application/grpc+raw" {
			calls.ServeHTTP(w, r)
			return
		}
		if strings.HasPrefix(r.URL.Path, "/slow/") {
			time.Sleep(slow)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			body = []byte("leaf\n")
		}
		w.Write(body)
	})
	if len(secret) == 2 {
		return server.ListenAndServeTLS(secret[0], secret[1])
	}
	return server.ListenAndServe()
}
