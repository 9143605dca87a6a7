package panel

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"rightful"

	"github.com/go-sql-driver/mysql"
)

// Some panels keep their accounts in a MySQL database. It is asked over its socket on this machine, as the panel's own
// user, in a transaction that can only read, and never when another server's root is looked after. Where it does not
// answer (it may be the casualty) accounts are those that passwd and the virtual hosts show, and an issue says so.

// mysqlSockets are the usual places: Debian, Red Hat, Plesk's and CyberPanel's own.
var mysqlSockets = [...]string{"/run/mysqld/mysqld.sock", "/var/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock", "/tmp/mysql.sock"}

const (
	// databasePatience bounds everything that one panel asks its database.
	databasePatience = 20 * time.Second
	// maxRows bounds one answer: a hundred sites for each of ten thousand accounts.
	maxRows = 1 << 20
)

// credentials are those by which a panel opens its database.
type credentials struct{ user, password, host, name string }

// A database is a transaction that can only read.
type database struct {
	r    *reader
	file string // where the credentials are
	ctx  context.Context
	tx   *sql.Tx
	end  func()
}

// database opens a panel's database, or says in an issue why accounts are read without it.
func (r *reader) database(file string, c credentials) (*database, bool) {
	db, err := r.openDatabase(file, c)
	if err != nil {
		r.issue(Issue{
			File: file, Problem: NoDatabase, Fatal: r.s.Live(),
			Msg: fmt.Sprintf("open database %q: %v: accounts are those that passwd and the virtual hosts show", c.name, err),
		})
		return nil, false
	}
	return db, true
}

func (r *reader) openDatabase(file string, c credentials) (*database, error) {
	socket := r.socket
	switch {
	case socket != "":
	case !r.s.Live():
		return nil, fmt.Errorf("with --root no database is asked")
	case c.user == "":
		return nil, fmt.Errorf("its user is not known")
	case c.host != "" && c.host != "localhost" && c.host != "127.0.0.1" && c.host != "::1":
		return nil, fmt.Errorf("it is on %q, and only this machine is asked", c.host)
	default:
		for _, s := range mysqlSockets {
			if st, err := r.s.Stat(s); err == nil && st.Kind == rightful.KindSocket {
				socket = s
				break
			}
		}
		if socket == "" {
			return nil, fmt.Errorf("its server has no socket: it does not run")
		}
	}
	conf := mysql.NewConfig()
	conf.Net, conf.Addr, conf.User, conf.Passwd, conf.DBName = "unix", socket, c.user, c.password, c.name
	conf.Timeout, conf.ReadTimeout, conf.WriteTimeout = 3*time.Second, databasePatience, 3*time.Second
	conf.Logger = &mysql.NopLogger{}
	conn, err := mysql.NewConnector(conf)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(conn)
	ctx, cancel := context.WithTimeout(context.Background(), databasePatience)
	tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		cancel()
		db.Close()
		return nil, err
	}
	return &database{r: r, file: file, ctx: ctx, tx: tx, end: func() {
		tx.Rollback()
		cancel()
		db.Close()
	}}, nil
}

// rows gives all rows of a query as text, NULL as nothing. A query that fails is an issue: a fatal one where accounts hang
// on it.
func (d *database) rows(must bool, query string) [][]string {
	out, err := d.query(query)
	if err != nil {
		d.r.issue(Issue{File: d.file, Problem: NoDatabase, Fatal: must, Msg: fmt.Sprintf("ask database: %v", err)})
	}
	return out
}

func (d *database) query(query string) (out [][]string, err error) {
	rows, err := d.tx.QueryContext(d.ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() && len(out) < maxRows {
		row := make([]sql.NullString, len(cols))
		into := make([]any, len(cols))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return out, err
		}
		text := make([]string, len(cols))
		for i := range row {
			text[i] = row[i].String
		}
		out = append(out, text)
	}
	return out, rows.Err()
}

// assignments reads what a PHP or Python file assigns to keys in quotes: $conf['KEY'] = 'value'; and 'KEY': 'value',. The
// first of two counts. Values with escapes in them are unescaped as both languages do it in single quotes.
func assignments(text string) map[string]string {
	kv := map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(text, "\ufeff")) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "//") {
			continue
		}
		key, rest, ok := quotedWord(line)
		if !ok {
			continue
		}
		value, _, ok := quotedWord(rest)
		if !ok {
			continue
		}
		if _, twice := kv[key]; !twice {
			kv[key] = value
		}
	}
	return kv
}

// quotedWord cuts the first word in single or double quotes out of a line.
func quotedWord(s string) (word, rest string, ok bool) {
	i := strings.IndexAny(s, `'"`)
	if i < 0 {
		return "", "", false
	}
	end := s[i]
	var b strings.Builder
	for j := i + 1; j < len(s); j++ {
		switch {
		case s[j] == '\\' && j+1 < len(s) && (s[j+1] == end || s[j+1] == '\\'):
			j++
			b.WriteByte(s[j])
		case s[j] == end:
			return b.String(), s[j+1:], true
		default:
			b.WriteByte(s[j])
		}
	}
	return "", "", false
}
