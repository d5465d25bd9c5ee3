package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
)

// load makes that many requests, so many at once, each on a connection kept for the next.
func load(port, shape string, atOnce, many int) error {
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: atOnce}}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for {
				at := next.Add(1) - 1
				if at >= int64(many) {
					return
				}
				must(ask(&client, fmt.Sprintf("http://127.0.0.1:%s/%s/%d", port, shape, at)))
			}
		})
	}
	workers.Wait()
	return nil
}

// ask reads an answer to its end, so that the connection can be used again.
func ask(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %s", url, answer.Status, text)
	}
	return err
}
