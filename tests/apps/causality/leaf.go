package main

import (
	"io"
	"net/http"
)

// leaf answers everything with a word, by HTTP/1.1 and by HTTP/2 without TLS.
func leaf(port string) error {
	server := http.Server{Addr: "127.0.0.1:" + port, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "leaf\n")
	})
	return server.ListenAndServe()
}
