// The Go driver under database/sql, told where the server listens.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"

	"github.com/go-sql-driver/mysql"
)

func main() {
	place := "unix(" + os.Args[1] + ")"
	if _, err := strconv.Atoi(os.Args[1]); err == nil {
		place = "tcp(127.0.0.1:" + os.Args[1] + ")"
	}
	ctx := context.Background()
	pool, err := sql.Open("mysql", "app:secret@"+place+"/shop")
	check(err)
	link, err := pool.Conn(ctx)
	check(err)
	statement, err := link.PrepareContext(ctx, "SELECT name FROM items WHERE id = ?")
	check(err)
	input := bufio.NewReader(os.Stdin)
	fmt.Println("ready")
	input.ReadString('\n')
	rows(link.QueryContext(ctx, "SELECT id, name FROM items WHERE id < 100"))
	for id := 1; id <= 2; id++ {
		rows(statement.QueryContext(ctx, id))
	}
	_, err = link.ExecContext(ctx, "INSERT INTO items(name) VALUES (?)", "bought")
	check(err)
	var wrong *mysql.MySQLError
	_, err = link.QueryContext(ctx, "SELECT * FROM missing WHERE id = 4711")
	if !errors.As(err, &wrong) || wrong.Number != 1146 {
		log.Fatal(err)
	}
	rows(link.QueryContext(ctx, "SELECT seq, REPEAT('x', 20) FROM seq_1_to_1000"))
	check(statement.Close())
	check(link.PingContext(ctx))
	change, err := link.BeginTx(ctx, nil)
	check(err)
	_, err = change.ExecContext(ctx, "UPDATE items SET name = 'new' WHERE id IN (1, 2)")
	check(err)
	check(change.Commit())
	_, err = link.ExecContext(ctx, "USE other")
	check(err)
	rows(link.QueryContext(ctx, "SELECT 'text' AS a"))
	fmt.Println("done")
	input.ReadString('\n')
}

func rows(found *sql.Rows, err error) {
	check(err)
	for found.Next() {
	}
	check(found.Err())
	check(found.Close())
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
