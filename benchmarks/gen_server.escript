#!/usr/bin/env escript
%%! -smp enable
%% The same jobs on Erlang's gen_server and supervisor: prints one line "name value" for each.
-mode(compile).
-behaviour(gen_server).
-export([main/1, start_link/0, init/1, handle_call/3, handle_cast/2]).

main([Times]) ->
    N = list_to_integer(Times),
    process_flag(trap_exit, true),
    logger:set_primary_config(level, none),
    Child = #{id => server, start => {?MODULE, start_link, []}, restart => permanent},
    {ok, Supervisor} = supervisor:start_link(?MODULE, {supervisor, Child}),
    best("call_per_s", fun() -> rate(N, fun(_) -> gen_server:call(server, get) end) end),
    best("cast_per_s", fun() ->
        rate(N, fun(I) ->
            gen_server:cast(server, add),
            case I of N -> gen_server:call(server, get, infinity); _ -> ok end
        end)
    end),
    Restarts = lists:sort([restart_us() || _ <- lists:seq(1, 200)]),
    io:format("restart_us ~p~n", [lists:nth(100, Restarts)]),
    exit(Supervisor, shutdown).

best(Name, Measure) ->
    Measure(),
    io:format("~s ~p~n", [Name, lists:max([Measure() || _ <- lists:seq(1, 5)])]).

rate(N, Do) ->
    {Us, _} = timer:tc(fun() -> lists:foreach(Do, lists:seq(1, N)) end),
    N * 1.0e6 / Us.

%% From the crash to the next incarnation's reply.
restart_us() ->
    Begun = erlang:monotonic_time(nanosecond),
    gen_server:cast(server, crash),
    answered(),
    (erlang:monotonic_time(nanosecond) - Begun) / 1000.

answered() ->
    try gen_server:call(server, fresh) of
        true -> ok;
        false -> answered()
    catch
        exit:_ -> answered()
    end.

start_link() ->
    gen_server:start_link({local, server}, ?MODULE, server, []).

init({supervisor, Child}) ->
    {ok, {#{strategy => one_for_one, intensity => 1000000, period => 1}, [Child]}};
init(server) ->
    {ok, 0}.

handle_call(get, _From, N) -> {reply, N, N};
handle_call(fresh, _From, N) -> {reply, N =:= 0, N}.

handle_cast(add, N) -> {noreply, N + 1};
handle_cast(crash, _) -> exit(boom).
