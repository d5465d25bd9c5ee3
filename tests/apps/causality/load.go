package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// pace says which number the first request has, and how long who asks waits on average before asking again.
type pace struct {
	first int
	pause time.Duration
}

// load makes that many requests, so many at once, each on a connection kept for the next.
func load(port, shape string, atOnce, many int, how pace) error {
	if by := asker(port); by != nil {
		return spread(atOnce, many, how, func(at, number int) error {
			return by(at)(fmt.Sprintf("/%s/%d", shape, number))
		})
	}
	url := fmt.Sprintf("http://127.0.0.1:%s/%s/", port, shape)
	clients, transport := make([]http.Client, atOnce), &http.Transport{MaxIdleConnsPerHost: atOnce}
	for at := range clients {
		clients[at].Transport = transport
	}
	return loaded(clients, url, shape, many, how)
}

// loaded makes that many, of these at once.
func loaded(clients []http.Client, url, shape string, many int, how pace) error {
	asks, own := asks[shape]
	if !own {
		asks = ask
	}
	return spread(len(clients), many, how, func(at, number int) error {
		return asks(&clients[at], fmt.Sprint(url, number))
	})
}

// spread makes that many, so many at once.
func spread(atOnce, many int, how pace, ask func(at, number int) error) error {
	var next atomic.Int64
	var workers sync.WaitGroup
	for at := range atOnce {
		workers.Go(func() {
			for {
				number := next.Add(1) - 1
				if number >= int64(many) {
					return
				}
				time.Sleep(time.Duration(rand.ExpFloat64() * float64(how.pause)))
				must(ask(at, how.first+int(number)))
			}
		})
	}
	workers.Wait()
	return nil
}

// aside makes them when it is told to go on: over a unix socket, or to a port, where for "elder" each
// connection made one before.
func aside(way, place, shape string, atOnce, many int) error {
	clients := make([]http.Client, atOnce)
	url := fmt.Sprintf("http://127.0.0.1:%s/%s/", place, shape)
	if way == "unix" {
		url = fmt.Sprintf("http://unix/%s/", shape)
	}
	for at := range clients {
		transport := &http.Transport{MaxConnsPerHost: 1}
		if way == "unix" {
			transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", place)
			}
		}
		clients[at].Transport = transport
		if way == "elder" {
			must(ask(&clients[at], url+"0"))
		}
	}
	fmt.Println("ready")
	if _, err := fmt.Scanln(); err != nil {
		return err
	}
	err := loaded(clients, url, shape, many, pace{})
	fmt.Println("done")
	return err
}

// asks are the shapes that are asked for by other means than GET.
var asks = map[string]func(client *http.Client, url string) error{
	"post": send, "hijack": upgrade, "own": marked, "same": marked, "cookies": marked,
}

// marked says the request's number in a header that means nothing to anybody. By all else those of one
// shape are the same, but for the path of "own" and a header of "cookies".
func marked(client *http.Client, url string) error {
	slash := strings.LastIndexByte(url, '/')
	number, shape := url[slash+1:], url[:slash]
	if !strings.HasSuffix(shape, "/own") {
		url = shape
	}
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("X-Cause", number)
	if strings.HasSuffix(shape, "/cookies") {
		request.Header.Set("Cookie", "user="+number)
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	_, err = read(answer)
	return err
}

// ask reads an answer to its end, so that the connection can be used again.
func ask(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	text, err := read(answer)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, answer.Status, text)
	}
	return err
}

// send has as much to say as it is told.
func send(client *http.Client, url string) error {
	said := make([]byte, long)
	answer, err := client.Post(url, "application/octet-stream", bytes.NewReader(said))
	if err != nil {
		return err
	}
	text, err := read(answer)
	if err == nil && len(text) != long {
		err = fmt.Errorf("%s: %s %d bytes", url, answer.Status, len(text))
	}
	return err
}

// upgrade goes on with bytes that no protocol knows, and is told them again.
func upgrade(client *http.Client, url string) error {
	request, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "bytes")
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	both, can := answer.Body.(io.Writer)
	if !can {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	if _, err := io.WriteString(both, raw); err != nil {
		return err
	}
	text, err := read(answer)
	if err == nil && string(text) != raw {
		err = fmt.Errorf("%s: %q", url, text)
	}
	return err
}

func read(answer *http.Response) ([]byte, error) {
	defer answer.Body.Close()
	return io.ReadAll(answer.Body)
}

// long is what a body has in bytes, and raw what follows an upgrade.
const long, raw = 64 << 10, "\x00\x01\x02\x03"
