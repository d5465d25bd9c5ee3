// Command go-app is a server and a client on Go's net/http, as plain as they come. The server
// speaks TLS where the environment has TLS_CERT and TLS_KEY.
//
//	go-app server PORT [PEER]
//	go-app client BASE
package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if os.Args[1] == "client" {
		client(os.Args[2])
		return
	}
	peer := ""
	if len(os.Args) > 3 {
		peer = os.Args[3]
	}
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { serve(w, r, peer) })
	address, certificate := "127.0.0.1:"+os.Args[2], os.Getenv("TLS_CERT")
	if certificate != "" {
		fmt.Println(http.ListenAndServeTLS(address, certificate, os.Getenv("TLS_KEY"), nil))
	} else {
		fmt.Println(http.ListenAndServe(address, nil))
	}
}

func serve(w http.ResponseWriter, r *http.Request, peer string) {
	parts := strings.Split(r.URL.Path, "/")
	word, number := parts[1], 0
	if len(parts) > 2 {
		number, _ = strconv.Atoi(parts[2])
	}
	switch word {
	case "bytes":
		w.Header().Set("Content-Length", strconv.Itoa(number))
		io.WriteString(w, strings.Repeat("x", number))
	case "chunked":
		half := number / 2
		io.WriteString(w, strings.Repeat("x", half))
		w.(http.Flusher).Flush()
		io.WriteString(w, strings.Repeat("x", number-half))
		w.(http.Flusher).Flush()
	case "upload":
		count, _ := io.Copy(io.Discard, r.Body)
		w.WriteHeader(201)
		fmt.Fprintf(w, "received %d\n", count)
	case "item":
		w.WriteHeader(204)
	case "status":
		if number == 301 {
			w.Header().Set("Location", "/bytes/0/1")
		}
		w.WriteHeader(number)
		if number != 204 {
			fmt.Fprintf(w, "status %d\n", number)
		}
	case "slow":
		time.Sleep(time.Duration(number) * time.Millisecond)
		io.WriteString(w, "late\n")
	case "call":
		answer, err := http.Get(peer + "/bytes/10/" + parts[2])
		if err != nil {
			http.Error(w, err.Error(), 502)
			return
		}
		defer answer.Body.Close()
		io.Copy(w, answer.Body)
	default:
		http.NotFound(w, r)
	}
}

func client(base string) {
	transport := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		status, count, err := ask(transport, base, strings.Split(lines.Text(), "\t"))
		if err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println(status, count)
		}
	}
}

func ask(transport *http.Client, base string, words []string) (int, int64, error) {
	var body io.Reader
	if size, err := strconv.Atoi(words[2]); err == nil {
		body = strings.NewReader(strings.Repeat("x", size))
	}
	request, err := http.NewRequest(words[0], base+words[1], body)
	if err != nil {
		return 0, 0, err
	}
	for _, word := range words[3:] {
		if word == "chunked" {
			request.Body, request.ContentLength = io.NopCloser(io.MultiReader(body)), -1
		} else if word == "close" {
			request.Close = true
		} else if name, value, found := strings.Cut(word, ": "); found {
			request.Header.Set(name, value)
		}
	}
	answer, err := transport.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	count, err := io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, count, err
}
