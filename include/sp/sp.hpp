// SPDX-License-Identifier: BSD-2-Clause
//
// sp: Scalability Protocols over AF_XDP, raw IP and local sockets. This is all that an application
// includes.
#pragma once

#include "sp/engine.hpp"
#include "sp/error.hpp"
#include "sp/message.hpp"
#include "sp/options.hpp"
#include "sp/rep.hpp"
#include "sp/req.hpp"
#include "sp/socket.hpp"
#include "sp/wait.hpp"
